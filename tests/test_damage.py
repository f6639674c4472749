"""Damage to any file that commands write is one sentence with the file's name.

`KINDS` has every kind of file, how one is made and how it is read. Each is cut, has one bit turned, is
empty, missing, and replaced by the same file of something else.
"""

import bz2
import dataclasses
import datetime
import gzip
import json
import lzma
import pathlib
import re
import shutil
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from data_prep.examples_file import read_examples
from data_prep.readers.base import Piece, line_blocks
from data_prep.storage import load_columns, map_columns, save_columns
from data_prep.synthetic import PRESETS, Truth, write_log
from dgin_tf.inputs.pipeline import BatchOptions, PreparedData
from dgin_tf.integrity import facts_of, read_json, sealed
from dgin_tf.ownership import NOTES_FILE, claim
from dgin_tf.records import read_manifest
from dgin_tf.schema import Schema
from dgin_tf.serving.center.event_sources import GrowingFile, position_of_file
from dgin_tf.serving.center.snapshots import Snapshots
from dgin_tf.serving.center.user_states import UserStates
from dgin_tf.serving.export.versions import ASSETS, FILES, METADATA_FILE, open_bundle
from dgin_tf.serving.export.vocabularies import Vocabularies
from dgin_tf.stores.behavior_index import BehaviorIndex
from dgin_tf.stores.index_building import build_index
from dgin_tf.stores.lmdb_store import LmdbStore
from dgin_tf.stores.state_store import InMemoryStore
from dgin_tf.training.checkpoints import Checkpoints
from dgin_tf.training.loop import read_config, read_result
from experiments.reporting.earlier_results import EarlierResults
from tests.data_prep import logs

CUT, BIT, EMPTY, MISSING, REPLACED = "cut", "bit", "empty", "missing", "replaced"
WAYS = (CUT, BIT, EMPTY, MISSING, REPLACED)


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
      make: writes a folder of them, given a number that makes two of them differ.
      file: pattern of the file in that folder that is damaged.
      read: reads the folder; must raise ValueError or OSError for a damaged file.
      unnoticed: ways that nothing can tell, or that are no damage.
    """

    make: Callable[[pathlib.Path, int], object]
    file: str
    read: Callable[[pathlib.Path], object]
    unnoticed: tuple[str, ...] = ()


def make_data(folder, number):
    folder.mkdir()
    users = 31 + 2 * number
    log = logs.write_log(folder.parent, logs.rows_of(users=users, seed=number))
    logs.run(logs.preparation(log, targets_per_user=2, buckets=1), folder)


def make_old_data(folder, number):
    make_data(folder, number)
    (folder / "manifest.json").write_text(sealed({**read_manifest(folder), "files": {}}))


def read_batches(folder):
    data = PreparedData(folder)
    with data.naming_damage():
        for split in ("train", "test"):
            list(data.evaluation(split, BatchOptions(16, 20)))


def read_vocabulary(folder):
    PreparedData(folder)
    return Vocabularies(folder)["item_id"]


def keras_model(units):
    model = tf.keras.Sequential([tf.keras.layers.Dense(units)])
    model.build((None, 5))
    return model


def test_numbers_that_json_lacks_have_a_checksum_too(tmp_path):
    (tmp_path / "x.json").write_text(sealed({"gauc": float("nan"), 3: (1, 2)}))
    content = read_json(tmp_path / "x.json", "numbers", "")
    assert np.isnan(content["gauc"])
    assert content["3"] == [1, 2]


def make_checkpoint(folder, number):
    for kind in ("best", "state"):
        save = getattr(Checkpoints(folder, keras_model(3 + number), "s"), f"save_{kind}")
        save(1, {"best_evaluation": 1, "validation": {"auc": 0.5 + number}})


def read_checkpoint(folder):
    checkpoints = Checkpoints(folder, keras_model(3), "s")
    checkpoints.restore_best()
    checkpoints.restore_state()


def make_run(folder, number):
    folder.mkdir()
    for name in ("config", "result"):
        (folder / f"{name}.json").write_text(sealed({"value": number + 0.25, "names": ["a", "b"]}))


def make_bundle(folder, number):
    folder.mkdir()
    version = folder / "1"
    make_data(version, number)
    shutil.move(version, folder.parent / "moved")
    (version / ASSETS).mkdir(parents=True)
    for name in ("schema.json", "catalogue.npz", "vocabulary"):
        shutil.move(folder.parent / "moved" / name, version / ASSETS / name)
    shutil.rmtree(folder.parent / "moved")
    (version / "variables").mkdir()
    names = (
        "saved_model.pb",
        "variables/variables.index",
        "variables/variables.data-00000-of-00001",
    )
    for name in names:
        (version / name).write_bytes(np.random.default_rng(number).bytes(99 + number))
    metadata = dict.fromkeys(("max_history", "assets_dir", "signatures"), 0)
    metadata |= {"name": f"n{number}", "version": 1, "format_version": 2}
    metadata["schema_fingerprint"] = Schema.load(version / ASSETS).fingerprint()
    files = [p.relative_to(version).as_posix() for p in version.rglob("*") if p.is_file()]
    metadata[FILES] = facts_of(version, files)
    (version / ASSETS / METADATA_FILE).write_text(sealed(metadata))


def make_index(folder, number):
    folder.mkdir()
    make_data(folder / "data", number)
    build_index(folder / "data", folder / "index", "category_id")


def read_index(folder):
    BehaviorIndex(folder / "index", Schema.load(folder / "data"), "category_id").check()


def make_store(folder, number):
    with LmdbStore(folder) as store:
        store.put_many({user: bytes(999) for user in range(50 + number)})


def read_store(folder):
    with LmdbStore(folder) as store:
        return dict(store.items())


def states_in(store):
    metadata = {"name": "m", "version": 1, "weights_digest": "d", "schema_fingerprint": "s"}
    metadata |= {"signatures": {"encode_user": {"outputs": {}}, "update_user": {"outputs": {}}}}
    return UserStates(store, metadata)


def make_snapshot(folder, number):
    states = states_in(InMemoryStore())
    states.store.put_many({user: bytes(99) for user in range(20 + number)})
    Snapshots(folder, states).take({"offset": 7 + number}, datetime.date(2026, 11, 21))


def read_snapshot(folder):
    snapshots = Snapshots(folder, states_in(InMemoryStore()))
    snapshot = snapshots.find("2026-11-21")
    return snapshots.roll_back(snapshot)


def make_offset(folder, number):
    folder.mkdir()
    (folder / "events").write_text("{}\n" * 9)
    source = GrowingFile(folder / "events", folder / "offset", follow=False)
    source.read(3 + number)
    source.acknowledge()
    source.close()
    content = json.loads((folder / "offset").read_text())
    if number:
        (folder / "offset").write_text(json.dumps({**content, "file": "/another"}))


def read_offset(folder):
    GrowingFile(folder / "events", folder / "offset", follow=False).close()
    position_of_file(folder / "offset")


def make_log(folder, number):
    log = PRESETS["quickstart"]
    population = dataclasses.replace(log.population, users=20 + number, events=900)
    write_log(dataclasses.replace(log, population=population), folder / "log.csv", number)


def make_tables(folder, number):
    folder.mkdir()
    parts = ("config", "machine", "versions", "deviation", "validation", "test")
    result = {**dict.fromkeys(parts, number), "seeds": []}
    (folder / "dien.json").write_text(sealed({"results": {"popular": {"din": result}}}))


def make_notes(folder, number):
    claim(folder, "a test", [f"x{number}"])


def make_columns(folder, number):
    folder.mkdir()
    save_columns(folder / "x.columns", {"a": np.arange(50 + number), "b": np.zeros(3)})


def read_columns(folder):
    map_columns(folder / "x.columns")
    load_columns(folder / "x.columns")


def make_compressed(ending, compress):
    def make(folder, number):
        folder.mkdir()
        lines = [f"{n},train,1,9,{n},{n * n + number}\n" for n in range(2000)]
        text = "user_id,split,position,timestamp,positive,negative\n" + "".join(lines)
        (folder / f"log.csv.{ending}").write_bytes(compress(text.encode()))

    def read(folder):
        path = str(folder / f"log.csv.{ending}")
        list(line_blocks(Piece(path, 0, 1)))

    def read_fixed(folder):
        read_examples(str(folder / f"log.csv.{ending}"), ())

    # Whether there is a log, its reader asks first; an empty one has no events, which is refused later.
    whole = Kind(make, f"*.{ending}", read, (EMPTY, MISSING, REPLACED))
    return whole, dataclasses.replace(whole, read=read_fixed, unnoticed=(REPLACED,))


GZ, EXAMPLES_GZ = make_compressed("gz", gzip.compress)
XZ, EXAMPLES_XZ = make_compressed("xz", lzma.compress)
BZ2, EXAMPLES_BZ2 = make_compressed("bz2", bz2.compress)
KINDS = {
    "schema": Kind(make_data, "schema.json", PreparedData),
    "manifest": Kind(make_data, "manifest.json", PreparedData),
    "catalogue": Kind(make_data, "catalogue.npz", PreparedData),
    "vocabulary": Kind(make_data, "vocabulary/item_id.txt", read_vocabulary),
    "shard": Kind(make_data, "train/*.tfrecord", PreparedData),
    # As with more records than are compared when a data set is opened.
    "shard without facts": Kind(make_old_data, "train/*.tfrecord", read_batches, (REPLACED,)),
    # Settings and results of another run are another run's: nothing tells them apart but what is in them.
    "config": Kind(make_run, "config.json", read_config, (REPLACED,)),
    "result": Kind(make_run, "result.json", read_result, (REPLACED,)),
    "best identity": Kind(make_checkpoint, "checkpoints/best-0001/identity.json", read_checkpoint),
    "best values": Kind(make_checkpoint, "checkpoints/best-0001/values.data-*", read_checkpoint),
    "state index": Kind(make_checkpoint, "checkpoints/state-0001/values.index", read_checkpoint),
    "state progress": Kind(
        make_checkpoint, "checkpoints/state-0001/progress.json", read_checkpoint
    ),
    "model.json": Kind(make_bundle, f"1/{ASSETS}/model.json", open_bundle),
    "saved model": Kind(make_bundle, "1/saved_model.pb", open_bundle),
    "variables": Kind(make_bundle, "1/variables/*.data-*", open_bundle),
    "variables index": Kind(make_bundle, "1/variables/*.index", open_bundle),
    "bundle schema": Kind(make_bundle, f"1/{ASSETS}/schema.json", open_bundle),
    "bundle catalogue": Kind(make_bundle, f"1/{ASSETS}/catalogue.npz", open_bundle),
    "bundle vocabulary": Kind(make_bundle, f"1/{ASSETS}/vocabulary/item_id.txt", open_bundle),
    "index.json": Kind(make_index, "index/index.json", read_index),
    "blocks": Kind(make_index, "index/blocks.bin", read_index),
    "offsets": Kind(make_index, "index/offsets.bin", read_index),
    # LMDB has no checksums; the values that we store in it have one each (tests/stores/test_values.py).
    "store": Kind(make_store, "data.mdb", read_store, (BIT, REPLACED)),
    # A snapshot without its description is one that was never finished.
    "snapshot": Kind(make_snapshot, "m.1/2026-11-21/snapshot.json", read_snapshot, (REPLACED,)),
    "values": Kind(make_snapshot, "m.1/2026-11-21/values.tfrecord", read_snapshot, (REPLACED,)),
    # Without its offset a file is read from the beginning, and what was read before changes nothing.
    "offset": Kind(make_offset, "offset", read_offset, (MISSING,)),
    "truth": Kind(make_log, "log.csv.truth.npz", lambda f: Truth.load(f / "log.csv"), (REPLACED,)),
    "tables": Kind(
        make_tables, "dien.json", lambda f: EarlierResults([f / "dien.json"]), (REPLACED,)
    ),
    "notes": Kind(make_notes, NOTES_FILE, lambda f: claim(f, "x", ["y"]), (MISSING, REPLACED)),
    # Intermediate: a preparation that is started again writes them anew where they are not whole.
    "columns": Kind(make_columns, "x.columns", read_columns, (BIT, REPLACED)),
    "gz": GZ,
    "xz": XZ,
    "bz2": BZ2,
    "examples gz": EXAMPLES_GZ,
    "examples xz": EXAMPLES_XZ,
    "examples bz2": EXAMPLES_BZ2,
}


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """Folder of a maker and a number, made once."""
    made = {}

    def original(make, number):
        if (make, number) not in made:
            made[make, number] = tmp_path_factory.mktemp("original") / "made"
            make(made[make, number], number)
        return made[make, number]

    return original


def damage(path, way, other):
    content = path.read_bytes()
    if way == CUT:
        path.write_bytes(content[: len(content) // 2])
    elif way == BIT:
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    elif way == REPLACED:
        path.write_bytes(other.read_bytes())
    else:
        path.unlink()
        if way == EMPTY:
            path.touch()


@pytest.mark.parametrize("name", KINDS)
def test_a_file_as_it_was_written_is_read(originals, name):
    KINDS[name].read(originals(KINDS[name].make, 0))


@pytest.mark.parametrize(
    ("name", "way"),
    [(name, way) for name, kind in KINDS.items() for way in WAYS if way not in kind.unnoticed],
)
def test_a_damaged_file_is_one_sentence_with_its_name(originals, tmp_path, name, way):
    kind = KINDS[name]
    folder = tmp_path / "damaged"
    shutil.copytree(originals(kind.make, 0), folder)
    path, other = (next(f.glob(kind.file)) for f in (folder, originals(kind.make, 1)))
    damage(path, way, other)
    with pytest.raises((ValueError, OSError)) as error:
        kind.read(folder)
    # The file, or the checkpoint, the store or the data set that it is a part of.
    names = [path.name, str(path.parent), str(folder)]
    assert any(text in str(error.value) for text in names), error.value
    assert not re.search(r"^Expecting value|^\[Errno", str(error.value))
