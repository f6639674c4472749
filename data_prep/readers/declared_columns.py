"""Declared columns of tables: those that stand in the log's rows, and those of tables of items and users."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from data_prep.columns import Column, DeclaredColumns
from data_prep.events import MISSING, id_keys
from data_prep.readers.cells import SIDE_FEATURE, UNWRITABLE
from data_prep.readers.rows import Rows
from data_prep.readers.side_files import text_option
from data_prep.stages.columns import parse_words

#: Bits of an unknown number, in the form in which numbers travel with events.
UNKNOWN_BITS = int(np.array(np.nan).view(np.int64))


def declared_columns(options: Mapping[str, object]) -> DeclaredColumns:
    """What the reader option `columns_file` declares, with the options' own item table where they have one.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is no such file, or declares columns of items and no table of items.
    """
    path = text_option(options, "columns_file")
    declared = DeclaredColumns.load(path) if path else DeclaredColumns()
    item_table = text_option(options, "item_table") or declared.item_table
    if declared.of_items and not item_table:
        raise ValueError(f"{path}: columns of items need a table of items; name it by item_table.")
    return dataclasses.replace(declared, item_table=item_table)


def names_in_file(columns: Sequence[Column]) -> dict[str, str]:
    """Canonical name -> name in the file."""
    return {column.name: column.column for column in columns}


def cell_types(columns: Sequence[Column]) -> dict[str, str]:
    """Types by which cells are read: text, empty where unknown, whatever it stands for."""
    return dict.fromkeys((column.name for column in columns), SIDE_FEATURE)


def encode_log_columns(
    rows: Rows, columns: Sequence[Column]
) -> tuple[Rows, dict[str, np.ndarray], dict[str, pd.Series]]:
    """Columns of the log as integers; rows with cells that are none of their kind are rejected.

    Args:
      rows: cells as text; a column that the file lacks is unknown in all rows.
      columns: of the log.

    Returns:
      The good rows, the bits of numbers and the keys of words by name, int64 [rows], and words by key.
    """
    table = rows.table  # with the rows that are rejected below
    values, names, good = {}, {}, np.ones(len(table), bool)
    for column in columns:
        if column.name not in table:
            missing = UNKNOWN_BITS if column.is_number else MISSING
            values[column.name] = np.full(len(table), missing, np.int64)
            continue
        # Each different word is looked at once.
        codes, different = pd.factorize(table[column.name])
        words = np.asarray(different, object)
        wrong = _faulty(column, words)
        if column.is_number:
            values[column.name] = parse_words(words)[0].view(np.int64)[codes]
        else:
            keys, names[column.name] = id_keys(pd.Series(words, dtype=object))
            values[column.name] = keys[codes]
        if wrong.any():
            still_there = np.flatnonzero(good)
            rejected = wrong[codes[good]]
            rows = rows.reject(rejected, _fault(column))
            good[still_there[rejected]] = False
    if not good.all():
        values = {name: column[good] for name, column in values.items()}
    return rows, values, names


def valid_attributes(parts: Iterator[Rows], columns: Sequence[Column]) -> Iterator[Rows]:
    """Rows of a table of items or users, those with cells that are none of their kind rejected."""
    for rows in parts:
        yield _reject_faulty(rows, columns)


def _reject_faulty(rows: Rows, columns: Sequence[Column]) -> Rows:
    """Rejects rows with an infinite number, text for a number, or a word that fits in no line."""
    for column in columns:
        codes, words = pd.factorize(rows.table[column.name])
        wrong = _faulty(column, np.asarray(words, object))
        if wrong.any():
            rows = rows.reject(wrong[codes], _fault(column))
    return rows


def _faulty(column: Column, words: np.ndarray) -> np.ndarray:
    """True for different words that are none of the column's kind, bool [words]."""
    if column.is_number:
        return parse_words(words)[1]
    return np.array([UNWRITABLE.search(word) is not None for word in words], bool)


def _fault(column: Column) -> str:
    if column.is_number:
        return f"{column.column} is no finite number"
    return f"{column.column} with a line break"
