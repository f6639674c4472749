"""Files of a prepared data set beside its records: what describes them, written last."""

import contextlib
import json
import os
import pathlib
import shutil
from collections.abc import Mapping, Sequence

from data_prep.engines.local import Result
from data_prep.protocol import EXAMPLES_FILE, PAPER
from data_prep.quarantine import QUARANTINE_FILE
from data_prep.report import report_page
from data_prep.stages.splits import TEST, VALIDATION
from data_prep.vocabularies import FOLDER, Vocabulary
from dgin_tf.integrity import check_files, facts_of
from dgin_tf.records import (
    CATALOGUE_FILE,
    MANIFEST_FILE,
    SPLITS,
    Manifest,
    Shard,
    read_manifest,
)
from dgin_tf.schema import SCHEMA_FILE, Schema, write_text

CARD_FILE = "data_card.json"
REPORT_FILE = "report.html"
WORK_FOLDER, COMPLETE_FOLDER = ".preparing", ".prepared"  # a new data set; one that is being moved
_REPLACED = "replaced.json"  # names of the files of the data set that is being replaced


def finished_card(output_dir: pathlib.Path, key: str) -> Result | None:
    """The data card of a finished preparation with this key; None where there is none, or no whole one."""
    try:
        manifest = read_manifest(output_dir)
        if manifest.get("protocol", {}).get("key") != key:
            return None
        check_files(output_dir, manifest.get("files", {}), "prepare the data again")
        return json.loads((output_dir / CARD_FILE).read_text(encoding="utf-8"))
    except (ValueError, FileNotFoundError):  # damaged: the same command mends it
        return None


def own_files(output_dir: pathlib.Path) -> set[str]:
    """Names of the files that the preparation in a folder wrote, by its manifest.

    Raises:
      ValueError: there is a manifest that cannot be read.
    """
    if not (output_dir / MANIFEST_FILE).is_file():
        return set()
    manifest = read_manifest(output_dir)
    names = {MANIFEST_FILE, *manifest.get("files", ())}
    if len(names) == 1:  # versions until 0.6 list the records alone
        names |= {CARD_FILE, REPORT_FILE, QUARANTINE_FILE, SCHEMA_FILE, CATALOGUE_FILE}
        names |= {shard["path"] for shards in manifest["splits"].values() for shard in shards}
        vocabularies = Schema.load(output_dir).vocabulary_sizes
        names |= {f"{FOLDER}/{name}.txt" for name in vocabularies}
    if outside := [name for name in names if name.startswith("/") or ".." in name.split("/")]:
        raise ValueError(
            f"{output_dir / MANIFEST_FILE} lists {outside[0]}, which is not in its folder."
        )
    return names


def remove_leftovers(new_dir: pathlib.Path) -> None:
    """Makes the folder of a new data set, or removes all but whole records from that of a killed run."""
    for path in list(new_dir.rglob("*")):
        # Tasks that are done are not run again: their records stay.
        if path.is_file() and (path.suffix != ".tfrecord" or path.name.startswith(".")):
            path.unlink()
    new_dir.mkdir(exist_ok=True)


def swap(new_dir: pathlib.Path, output_dir: pathlib.Path) -> None:
    """Moves a complete data set into its folder, in place of the one that is there.

    The manifest goes first and comes last, so that a reader finds a data set that is whole or none. Where a
    kill interrupts it, `new_dir` remains, and the next call with it goes on.
    """
    replaced, manifest = new_dir / _REPLACED, new_dir / MANIFEST_FILE
    if manifest.is_file():
        if (output_dir / MANIFEST_FILE).is_file():
            write_text(replaced, json.dumps(sorted(own_files(output_dir))))
            (output_dir / MANIFEST_FILE).unlink()
        old = json.loads(replaced.read_text(encoding="utf-8")) if replaced.is_file() else []
        new = own_files(new_dir)
        for name in sorted({*old} - new):
            (output_dir / name).unlink(missing_ok=True)
        for name in sorted(new - {MANIFEST_FILE}):
            (output_dir / name).parent.mkdir(exist_ok=True)
            if (new_dir / name).is_file():  # otherwise moved before a kill
                os.replace(new_dir / name, output_dir / name)
        for folder in {(output_dir / name).parent for name in old} - {output_dir}:
            with contextlib.suppress(OSError):  # still in use
                folder.rmdir()
        os.replace(manifest, output_dir / MANIFEST_FILE)
    shutil.rmtree(new_dir)


def remove_data_set(output_dir: pathlib.Path) -> None:
    """Removes a prepared data set, or what a killed preparation left of one, and nothing else."""
    for name in own_files(output_dir):
        (output_dir / name).unlink(missing_ok=True)
    for folder in (WORK_FOLDER, COMPLETE_FOLDER):
        shutil.rmtree(output_dir / folder, ignore_errors=True)


def publish(
    output_dir: pathlib.Path,
    schema: Schema,
    vocabularies: Mapping[str, Vocabulary],
    results: Sequence[Result],
    card: Result,
    key: str,
    earlier_schemas: tuple[str, ...] = (),
) -> None:
    """Writes vocabularies, schema, data card and report, and the manifest when all else is there.

    Args:
      output_dir: of the data set.
      schema: of the records.
      vocabularies: field -> vocabulary.
      results: of `write_bucket`, one a bucket.
      card: the data card.
      key: of the preparation, before its inputs were read.
      earlier_schemas: of the data sets whose ids are kept.
    """
    folder = output_dir / FOLDER
    folder.mkdir(exist_ok=True)
    for name, vocabulary in vocabularies.items():
        vocabulary.save(folder / f"{name}.txt")
    schema.save(output_dir)
    write_text(output_dir / CARD_FILE, json.dumps(card, indent=2, sort_keys=True) + "\n")
    write_text(output_dir / REPORT_FILE, report_page(card))
    splits: dict[str, list[Shard]] = {name: [] for name in SPLITS}
    for result in results:
        for shard in result["shards"]:
            splits[shard["path"].split("/")[0]].append(Shard(**shard))
    whole = [result["whole"] for result in results if result["whole"]]
    whole_shards = tuple(Shard(**shard) for part in whole for shard in part["shards"])
    settings = card["settings"]
    if settings["form"] == PAPER and settings["name"] != EXAMPLES_FILE:
        # The released code validates on the test split.
        splits[SPLITS[VALIDATION]] = splits[SPLITS[TEST]]
    files = (
        path.relative_to(output_dir).as_posix() for path in output_dir.rglob("*") if path.is_file()
    )
    Manifest(
        schema.fingerprint(),
        {name: tuple(shards) for name, shards in splits.items()},
        {**settings, "key": key, "time_cuts": card["time_cuts"]},
        facts_of(output_dir, sorted(files)),
        whole_shards if whole else None,
        earlier_schemas,
    ).save(output_dir)
