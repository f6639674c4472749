"""Tiny logs in Taobao's layout, and a reader of what a preparation wrote."""

import pathlib

import numpy as np

from data_prep.engines.local import LocalEngine
from data_prep.pipeline import Preparation, prepare, work_folder
from data_prep.protocol import Limits, Protocol
from data_prep.readers.taobao import BEHAVIORS, TaobaoReader
from dgin_tf.records import Manifest, decode_record, read_records, shard_paths
from dgin_tf.schema import Schema

START = 1511539200  # first second of the official window


def rows_of(users=31, events=17, items=53, seed=0) -> list[tuple]:
    """(user, item, category, behavior, second) rows, `events` a user on average, unsorted."""
    rng = np.random.default_rng(seed)
    count = users * events
    return list(
        zip(
            rng.integers(1, users + 1, count).tolist(),
            (item := rng.integers(1, items + 1, count)).tolist(),
            (100 + item % 7).tolist(),
            np.array(BEHAVIORS)[rng.integers(0, 4, count)].tolist(),
            (START + rng.integers(0, 700_000, count)).tolist(),
            strict=True,
        )
    )


def text_of(rows) -> bytes:
    return "".join(",".join(map(str, row)) + "\n" for row in rows).encode()


def write_log(folder: pathlib.Path, rows=None) -> str:
    path = folder / "UserBehavior.csv"
    path.write_bytes(text_of(rows_of() if rows is None else rows))
    return str(path)


def preparation(path: str, seed=3, **choices) -> Preparation:
    """A preparation with small buckets; `choices` belong to Protocol or Limits by name."""
    limits = {n: choices.pop(n) for n in list(choices) if n in Limits.__dataclass_fields__}
    reader = TaobaoReader([path], {})
    return Preparation(reader, Protocol(**choices), Limits(**{"buckets": 3, **limits}), seed, "")


def run(request: Preparation, output: pathlib.Path, workers=1) -> dict:
    return prepare(request, output, LocalEngine(work_folder(output), workers, progress=False))


def records(output: pathlib.Path) -> dict[str, list[dict[str, np.ndarray]]]:
    """Split -> decoded records."""
    schema = Schema.load(output)
    manifest = Manifest.load(output, schema)
    return {
        split: [
            decode_record(schema, payload)
            for path in shard_paths(output, shards)
            for payload in read_records(path)
        ]
        for split, shards in manifest.splits.items()
    }


def raw_ids(output: pathlib.Path, name: str) -> dict[int, str]:
    """Id -> raw value of a vocabulary."""
    lines = (output / "vocabulary" / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return dict(enumerate(lines, start=2))


def all_bytes(output: pathlib.Path) -> dict[str, bytes]:
    """Every file of a folder by relative path."""
    files = sorted(path for path in output.rglob("*") if path.is_file())
    return {str(path.relative_to(output)): path.read_bytes() for path in files}


def history_of(rows, user):
    """A user's distinct events as (second, item, category, behavior code), in order."""
    own = {(t, i, c, BEHAVIORS.index(b)) for u, i, c, b, t in rows if u == int(user)}
    return sorted(own)
