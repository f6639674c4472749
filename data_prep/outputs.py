"""Files of a prepared data set beside its records: what describes them, written last."""

import json
import pathlib
import shutil
from collections.abc import Mapping, Sequence

from data_prep.engines.local import Result
from data_prep.protocol import EXAMPLES_FILE, PAPER
from data_prep.quarantine import QUARANTINE_FILE
from data_prep.report import report_page
from data_prep.stages.splits import TEST, VALIDATION
from data_prep.vocabularies import FOLDER, Vocabulary
from dgin_tf.records import CATALOGUE_FILE, MANIFEST_FILE, SPLITS, Manifest, Shard
from dgin_tf.schema import SCHEMA_FILE, Schema, write_text

CARD_FILE = "data_card.json"
REPORT_FILE = "report.html"


def finished_card(output_dir: pathlib.Path, key: str) -> Result | None:
    """The data card of a finished preparation with this key; None where there is none."""
    if not (output_dir / MANIFEST_FILE).is_file() or not (output_dir / CARD_FILE).is_file():
        return None
    manifest = json.loads((output_dir / MANIFEST_FILE).read_text(encoding="utf-8"))
    if manifest.get("protocol", {}).get("key") != key:
        return None
    return json.loads((output_dir / CARD_FILE).read_text(encoding="utf-8"))


def remove_outputs(output_dir: pathlib.Path, *, records: bool) -> None:
    """Removes what an earlier preparation wrote, the manifest first.

    Args:
      output_dir: of the data set.
      records: removes the records too; otherwise only those that a kill left half-written.
    """
    for name in (
        MANIFEST_FILE,
        CARD_FILE,
        REPORT_FILE,
        QUARANTINE_FILE,
        SCHEMA_FILE,
        CATALOGUE_FILE,
    ):
        (output_dir / name).unlink(missing_ok=True)
    shutil.rmtree(output_dir / FOLDER, ignore_errors=True)
    # Temporary files are those of a killed worker.
    for folder in (output_dir, *(output_dir / split for split in SPLITS)):
        for pattern in (".*.tmp", "*.tfrecord") if records else (".*.tmp",):
            for path in folder.glob(pattern):
                path.unlink()


def publish(
    output_dir: pathlib.Path,
    schema: Schema,
    vocabularies: Mapping[str, Vocabulary],
    results: Sequence[Result],
    card: Result,
    key: str,
) -> None:
    """Writes vocabularies, schema, data card and report, and the manifest when all else is there.

    Args:
      output_dir: of the data set.
      schema: of the records.
      vocabularies: field -> vocabulary.
      results: of `write_bucket`, one a bucket.
      card: the data card.
      key: of the preparation, before its inputs were read.
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
    settings = card["settings"]
    if settings["form"] == PAPER and settings["name"] != EXAMPLES_FILE:
        # The released code validates on the test split.
        splits[SPLITS[VALIDATION]] = splits[SPLITS[TEST]]
    Manifest(
        schema.fingerprint(),
        {name: tuple(shards) for name, shards in splits.items()},
        {**settings, "key": key, "time_cuts": card["time_cuts"]},
    ).save(output_dir)
