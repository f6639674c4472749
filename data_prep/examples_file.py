"""Fixed examples of protocol `examples_file`: one line a target, so that two systems can be compared on them.

Columns `user_id, split, position, timestamp, positive, negative`, plain or compressed CSV. `position`
counts the user's events before the target when they are sorted by (timestamp, item id as integer);
splits are train, valid (or validation) and test. Each line is two examples of one history.
"""

import pathlib
from collections.abc import Collection

import numpy as np
import pandas as pd

from data_prep.events import ITEM, USER, id_keys
from data_prep.readers.base import decompressed
from data_prep.stages.partition import bucket_of
from data_prep.storage import Columns, save_columns
from dgin_tf.records import SPLITS

COLUMNS = ("user_id", "split", "position", "timestamp", "positive", "negative")
_SPLIT_NUMBERS = {**{name: number for number, name in enumerate(SPLITS)}, "valid": 1}


def read_examples(path: str, word_columns: Collection[str]) -> tuple[Columns, pd.Series]:
    """Reads an examples file.

    Args:
      path: CSV with a header, plain or .gz/.xz/.bz2.
      word_columns: id columns of the log that hold words rather than integers.

    Returns:
      `user, split, position, time, positive, negative, line`, all int64 [lines], and the words of the
      items by key (empty for integers).

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is not of this layout; says in which line.
    """
    if not pathlib.Path(path).is_file():
        raise FileNotFoundError(f"no examples file {path!r}; give --examples=FILE.")
    try:
        with decompressed(path) as file:
            table = pd.read_csv(file, dtype=str, keep_default_na=False, encoding="utf-8")
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no readable CSV file ({error}).") from error
    missing = [name for name in COLUMNS if name not in table]
    if missing:
        raise ValueError(
            f"{path}: expected the columns {', '.join(COLUMNS)} in the first line; missing are "
            f"{', '.join(missing)}."
        )
    if table.empty:
        raise ValueError(f"{path}: expected at least one example, found a header alone.")
    split = table["split"].map(_SPLIT_NUMBERS)
    _check(path, table, "split", split.isna(), f"one of {', '.join(_SPLIT_NUMBERS)}")
    # Line numbers as in an editor: line 1 is the header.
    columns = {"split": split.to_numpy(np.int64), "line": np.arange(2, len(table) + 2)}
    words = [pd.Series([], index=np.zeros(0, np.int64), dtype=object)]
    for name, target, kind in (
        ("user_id", "user", USER),
        ("position", "position", ""),
        ("timestamp", "time", ""),
        ("positive", "positive", ITEM),
        ("negative", "negative", ITEM),
    ):
        if kind in word_columns:
            columns[target], names = id_keys(table[name])
            if kind == ITEM:
                words.append(names)
        else:
            columns[target] = _integers(path, table, name)
    return columns, pd.concat(words)


def _integers(path: str, table: pd.DataFrame, name: str) -> np.ndarray:
    """A column as int64; raises ValueError that names the first line with anything else."""
    wrong = ~table[name].str.fullmatch(r"-?[0-9]{1,18}")
    _check(path, table, name, wrong, "an integer of at most 18 digits")
    return table[name].astype(np.int64).to_numpy()


def _check(path: str, table: pd.DataFrame, name: str, wrong: pd.Series, requirement: str) -> None:
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise ValueError(
            f"{path}, line {row + 2}: expected {name} to be {requirement}; got "
            f"{table[name].iloc[row]!r}."
        )


def deal_examples(columns: Columns, buckets: int, folder: pathlib.Path) -> None:
    """Writes the lines of each bucket's users to a file of its own."""
    folder.mkdir(exist_ok=True)
    bucket = bucket_of(columns["user"], buckets)
    # Stable: lines keep their order within a bucket.
    order = np.argsort(bucket, kind="stable")
    offsets = np.searchsorted(bucket[order], np.arange(buckets + 1))
    for number in range(buckets):
        rows = order[offsets[number] : offsets[number + 1]]
        save_columns(
            folder / f"{number:05d}.columns", {name: c[rows] for name, c in columns.items()}
        )
