"""Turns the cells of declared columns into ids and numbers, learned from what training sees of them.

A cell travels as it is written, or as a number, until all training rows have been counted. Words get ids by
falling count, lists are split into words, numbers get buckets of about equally many training values or the
moments by which models standardize them.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pandas as pd

from data_prep.columns import BUCKETED, LIST_SEPARATOR, MULTI_VALUED, Column
from data_prep.events import MISSING_NAME
from data_prep.stages.vocabulary import dense_ids, frequency_order
from dgin_tf.numeric_features import bucket_ids
from dgin_tf.schema import FIRST_ID, PADDING_ID, Field

#: Words that stand for an unknown number, whatever their case.
UNKNOWN_NUMBERS = ("", "nan", "na", "n/a", "null", "none")
_SAMPLES = 4_096  # of the values of one part, by which boundaries are learned


@dataclasses.dataclass(frozen=True)
class Encoding:
    """Field of a column, and what its cells or numbers become.

    Attributes:
      field: of the schema.
      words: of id `FIRST_ID` on, or the buckets of numbers in words; None for standardized numbers.
      counts: training rows of each of the words, int64 [words].
      table: ids of each distinct cell, int32 [cells] or [cells, values]; empty for numbers.
      figures: for the data card.
    """

    field: Field
    words: np.ndarray | None
    counts: np.ndarray
    table: np.ndarray
    figures: dict[str, object]


@dataclasses.dataclass(frozen=True)
class EarlierColumn:
    """A column of an earlier data set, whose ids and scales stay.

    Attributes:
      field: of its schema.
      words: in the order of their ids, objects [words]; none for numbers.
    """

    field: Field
    words: np.ndarray


@dataclasses.dataclass(frozen=True)
class Sample:
    """Numbers of a part of the data, few enough to keep, with their moments.

    Attributes:
      numbers: rising, [samples].
      weight: training values that each stands for.
      known, unknown: training values of the part.
      total, squares: sums of the known ones and of their squares.
    """

    numbers: np.ndarray
    weight: float
    known: int
    unknown: int
    total: float
    squares: float

    @classmethod
    def draw(cls, numbers: np.ndarray, repeats: np.ndarray | None = None) -> "Sample":
        """Samples the training numbers of a part at equal distances of their rank.

        Args:
          numbers: NaN where unknown, float64 [values].
          repeats: how often each counts; None for once.
        """
        unknown = np.isnan(numbers)
        if repeats is None:
            known = np.sort(numbers[~unknown])
            weights, weights_known = np.ones(len(numbers)), np.ones(len(known))
        else:
            weights = repeats.astype(np.float64)
            order = np.argsort(numbers[~unknown], kind="stable")
            known, weights_known = numbers[~unknown][order], weights[~unknown][order]
        ends = np.cumsum(weights_known)
        mass = float(ends[-1]) if len(ends) else 0.0
        samples = int(min(mass, _SAMPLES))
        places = (np.arange(samples) + 0.5) * mass / max(samples, 1)
        drawn = known[np.minimum(np.searchsorted(ends, places), max(len(known) - 1, 0))]
        return cls(
            drawn,
            mass / max(samples, 1),
            int(mass),
            int(weights[unknown].sum()),
            float(np.sum(known * weights_known)),
            float(np.sum(known * known * weights_known)),
        )


def encode_words(
    column: Column, cells: Sequence[str], counts: np.ndarray, earlier: EarlierColumn | None = None
) -> Encoding:
    """Ids of a column of words or lists.

    Args:
      column: categorical or multi-valued.
      cells: all distinct cells, "" where unknown.
      counts: training rows of each, int64 [cells].
      earlier: its words keep their ids, and new ones come behind them.
    """
    lists = column.kind == MULTI_VALUED
    values = [_members(column, cell) for cell in cells] if lists else [[cell] for cell in cells]
    sizes = np.array([len(members) for members in values], np.int64)
    # All members side by side, and of which cell each is.
    flat = np.array([member for members in values for member in members], dtype=object)
    owner = np.repeat(np.arange(len(cells)), sizes)
    codes, names = pd.factorize(flat, sort=True)
    total = np.bincount(codes, counts[owner], len(names)).astype(np.int64)
    rows = np.flatnonzero((total > 0) & (names != MISSING_NAME))
    rows = rows[frequency_order(total[rows], rows)]
    kept = np.zeros(0, object) if earlier is None else earlier.words
    place = pd.Index(names).get_indexer(pd.Index(kept))
    rows = rows[~np.isin(rows, place)]
    ids = dense_ids(rows, len(names))
    ids[rows] += np.int32(len(kept))
    ids[place[place >= 0]] = FIRST_ID + np.flatnonzero(place >= 0)
    ids = ids[codes]
    words = np.concatenate([kept, names[rows]])
    word_counts = np.concatenate([np.where(place >= 0, total[place], 0), total[rows]])
    width = 1
    if earlier is not None:
        width = earlier.field.values
    elif lists:
        width = max(1, min(column.values, int(sizes.max(initial=1))))
    table = np.full((len(cells), width), PADDING_ID, np.int32)
    position = np.arange(len(flat)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    inside = position < width
    table[owner[inside], position[inside]] = ids[inside]
    figures: dict[str, object] = {"values": len(words)}
    if lists:
        figures |= {
            "longest_list": int(sizes.max(initial=0)),
            "lists_cut": int(counts[sizes > width].sum()),
        }
    is_missing = np.array([cell == MISSING_NAME for cell in cells], bool)
    figures["missing"] = _share(counts[is_missing].sum(), counts.sum())
    field = Field(column.name, column.roles, column.name, values=width, is_column=True)
    return Encoding(
        field,
        words,
        word_counts.astype(np.int64),
        table if width > 1 else table[:, 0],
        figures,
    )


def encode_numbers(
    column: Column, samples: Sequence[Sample], earlier: EarlierColumn | None = None
) -> Encoding:
    """Boundaries or moments of a column of numbers, from samples of all parts; an earlier column's stay.

    Raises:
      ValueError: no number is known.
    """
    known, unknown = (sum(getattr(s, name) for s in samples) for name in ("known", "unknown"))
    if earlier is not None:
        field, share = earlier.field, _share(unknown, known + unknown)
        buckets = None if field.is_standardized else bucket_words(field.boundaries)
        counts = np.zeros(0 if buckets is None else len(buckets), np.int64)
        return Encoding(field, buckets, counts, np.zeros(0, np.int32), {"missing": share})
    if not known:
        raise ValueError(
            f"column {column.column!r} has no number in training; expected some, or declare it as "
            "categorical."
        )
    figures: dict[str, object] = {"missing": _share(unknown, known + unknown)}
    nothing = np.zeros(0, np.int32)
    if column.kind == BUCKETED:
        boundaries = _boundaries(samples, column.buckets)
        words, ids = bucket_words(boundaries), len(boundaries) + 1
        field = Field(
            column.name, column.roles, column.name, boundaries=tuple(boundaries), is_column=True
        )
        figures["values"] = ids
        return Encoding(field, words, np.zeros(ids, np.int64), nothing, figures)
    mean = sum(s.total for s in samples) / known
    variance = max(sum(s.squares for s in samples) / known - mean * mean, 0.0)
    # Equal numbers have no deviation; any positive one standardizes them to 0.
    deviation = float(np.sqrt(variance)) if variance > 1e-12 * max(mean * mean, 1e-300) else 1.0
    figures |= {"mean": mean, "standard_deviation": deviation}
    field = Field(column.name, column.roles, moments=(mean, deviation), is_column=True)
    return Encoding(field, None, np.zeros(0, np.int64), nothing, figures)


def number_values(field: Field, numbers: np.ndarray) -> np.ndarray:
    """Ids of buckets, int32, or float32 numbers; the field is one of `encode_numbers`."""
    if field.is_standardized:
        return numbers.astype(np.float32)
    return bucket_ids(numbers, field.boundaries)


def parse_numbers(cells: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Cells of text as numbers.

    Returns:
      Numbers, NaN where unknown, float64 [cells], and the cells that are neither finite nor unknown, bool.
    """
    codes, words = pd.factorize(cells)
    numbers, wrong = parse_words(np.asarray(words, object))
    return numbers[codes], wrong[codes]


def parse_words(words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`parse_numbers` of different words, objects [words]."""
    numbers = pd.to_numeric(words, errors="coerce").astype(np.float64)
    wrong = ~np.isfinite(numbers)
    for row in np.flatnonzero(wrong):  # few, hence by Python
        wrong[row] = str(words[row]).strip().lower() not in UNKNOWN_NUMBERS
        numbers[row] = np.nan
    return numbers, wrong


def bucket_words(boundaries: Sequence[float]) -> np.ndarray:
    """Buckets as people write them, such as `[1.5, 4)`, objects [boundaries + 1]."""
    edges = ["-inf", *(f"{edge:.12g}" for edge in boundaries), "inf"]
    return np.array([f"[{a}, {b})" for a, b in zip(edges, edges[1:], strict=False)], dtype=object)


def _members(column: Column, cell: str) -> list[str]:
    """Values of a cell, each once and in their order; empty ones are left out."""
    separator = LIST_SEPARATOR if LIST_SEPARATOR in cell else column.separator
    parts = (part.strip() for part in cell.split(separator))
    return list(dict.fromkeys(part for part in parts if part))


def _boundaries(samples: Sequence[Sample], buckets: int) -> list[float]:
    """Different quantiles of weighted samples, rising; each bucket has values on both sides of its bounds."""
    numbers = np.concatenate([sample.numbers for sample in samples])
    weights = np.concatenate([np.full(len(s.numbers), s.weight) for s in samples])
    order = np.argsort(numbers, kind="stable")
    numbers, ends = numbers[order], np.cumsum(weights[order])
    places = ends[-1] * np.arange(1, buckets) / buckets
    quantiles = np.unique(numbers[np.minimum(np.searchsorted(ends, places), len(numbers) - 1)])
    # The lowest number bounds nothing from below.
    return [float(number) for number in quantiles if number > numbers[0]]


def _share(part: float, total: float) -> float:
    return round(float(part) / float(total), 6) if total else 0.0
