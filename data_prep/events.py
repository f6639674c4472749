"""The canonical event table, the output of every reader and the input of every stage.

One event is `user_id, item_id, category_id, behavior_type, timestamp` (seconds). A reader
turns its source into `Chunk`s: the events that it could read, the rows that it could not with the
reason, and the number of source lines that both came from.

Ids are int64 throughout. A source whose ids are words (Amazon's `asin`) hands over the words, and
`id_keys` replaces each by a 63-bit digest; the words travel beside the digests in `names` and come
back as the lines of `vocabulary/*.txt`. Two words with one digest would be one item, so that is
checked when the names of all chunks meet, and is an error.
"""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from dgin_tf.records import LABEL
from dgin_tf.schema import NEGATIVE_RATE, REQUEST, SAMPLE_WEIGHT

USER = "user_id"
ITEM = "item_id"
CATEGORY = "category_id"
BEHAVIOR = "behavior_type"
TIME = "timestamp"
ID_COLUMNS = (USER, ITEM, CATEGORY)
COLUMNS = (USER, ITEM, CATEGORY, BEHAVIOR, TIME)

# Microseconds within the second, of logs whose times are finer than seconds: events are sorted by it too.
MICROSECOND = "microsecond"

# What impressions have besides. Rows of a behavior log beside them have `NO_IMPRESSION` in each.
SPLIT = "split"
IMPRESSION_COLUMNS = (LABEL, REQUEST, SPLIT, SAMPLE_WEIGHT, NEGATIVE_RATE)
NO_IMPRESSION = -1

# An event whose category the source does not tell. It becomes the out-of-vocabulary id.
MISSING = -1
MISSING_NAME = ""

BAD_COLUMNS = ("line", "reason", "text")
LONGEST_TEXT = 200


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Some consecutive rows of a source.

    Attributes:
      columns: every name of `COLUMNS` -> its values, [events], and after those the reader's
        `side_features`, which are ids, `numeric_features`, encoded by `dgin_tf.numeric_features`, those of
        `IMPRESSION_COLUMNS` that the log has, and `MICROSECOND` where it has times within seconds. All of these are int64;
        `behavior_type` is uint8, an index into the reader's `behavior_types` (0 where it has none).
      lines: source lines that were looked at, [] of int: the events, the bad rows and whatever is
        neither (a header).
      bad: the rows that are no events, columns `BAD_COLUMNS`: line number within the chunk (from 0),
        reason, and the beginning of the text.
      names: id column -> words, for columns whose ids are words: a table digest -> word of at least
        all words in the chunk. Empty for integer ids.
    """

    columns: Mapping[str, np.ndarray]
    lines: int
    bad: pd.DataFrame
    names: Mapping[str, pd.Series] = dataclasses.field(default_factory=dict)

    @property
    def events(self) -> int:
        return len(self.columns[TIME])


def make_chunk(
    frame: pd.DataFrame,
    lines: int,
    bad: pd.DataFrame | None = None,
    side_features: Sequence[str] = (),
    numeric_features: Sequence[str] = (),
) -> Chunk:
    """Builds a chunk from a table whose id columns hold integers or words.

    Args:
      frame: columns `COLUMNS`; `category_id` and `behavior_type` may be left out (no category, first
        behavior type). An id column of words has a string or object dtype, and missing values only
        in `category_id`. A column must be of one kind in all chunks of a source.
      lines: source lines that the chunk stands for.
      bad: rows that are no events, as `bad_rows` makes them.
      side_features: further columns of words, "" where unknown.
      numeric_features: further columns of encoded numbers.
    """
    columns: dict[str, np.ndarray] = {}
    names: dict[str, pd.Series] = {}
    for name in ID_COLUMNS:
        if name not in frame:
            columns[name] = np.full(len(frame), MISSING, np.int64)
        elif pd.api.types.is_integer_dtype(frame[name].dtype):
            columns[name] = frame[name].to_numpy(np.int64)
        else:
            columns[name], names[name] = id_keys(frame[name])
    columns[TIME] = frame[TIME].to_numpy(np.int64)
    columns[BEHAVIOR] = (
        frame[BEHAVIOR].to_numpy(np.uint8) if BEHAVIOR in frame else np.zeros(len(frame), np.uint8)
    )
    for name in side_features:
        columns[name], names[name] = id_keys(frame[name])
    columns.update((name, frame[name].to_numpy(np.int64)) for name in numeric_features)
    return Chunk(columns, lines, bad_rows([]) if bad is None else bad, names)


def bad_rows(rows: Sequence[tuple[int, str, str]]) -> pd.DataFrame:
    """Table of unreadable rows from (line within the chunk, reason, text) triples."""
    table = pd.DataFrame(list(rows), columns=list(BAD_COLUMNS)).astype(
        {"line": np.int64, "reason": object, "text": object}
    )
    table["text"] = [text[:LONGEST_TEXT] for text in table["text"]]
    return table


def id_keys(values: pd.Series) -> tuple[np.ndarray, pd.Series]:
    """Replaces words by 63-bit digests; the empty word and missing values become `MISSING`.

    Returns:
      Keys, int64 [events], and the words by key, a Series indexed by digest.
    """
    # Each distinct word is hashed once.
    codes, words = pd.factorize(values.astype(object).fillna(MISSING_NAME))
    keys = np.fromiter((_digest(str(word)) for word in words), np.int64, len(words))
    names = pd.Series([str(word) for word in words], index=keys, dtype=object)
    return keys[codes], names[names != MISSING_NAME]


def check_names(names: pd.Series) -> pd.Series:
    """Drops repetitions from a digest -> word table; raises ValueError on two words of one digest."""
    # A pair of digest and word may repeat; a digest of two words may not.
    distinct = names[~(names.index.duplicated() & names.duplicated())].sort_index(kind="stable")
    clash = distinct.index.duplicated(keep=False)
    if clash.any():
        raise ValueError(
            f"the ids {distinct[clash].iloc[0]!r} and {distinct[clash].iloc[1]!r} have the same "
            "63-bit digest and cannot be told apart; rename one of them."
        )
    return distinct


def concatenate(chunks: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Joins the columns of several chunks; with none, an empty table of the right types."""
    if not chunks:
        return {name: np.zeros(0, np.uint8 if name == BEHAVIOR else np.int64) for name in COLUMNS}
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}


def _digest(word: str) -> int:
    if word == MISSING_NAME:
        return MISSING
    digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    # 63 bits: int64 keys are not negative.
    return int.from_bytes(digest, "little") >> 1
