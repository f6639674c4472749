"""Types of cells: how text, JSON values and Arrow columns become integers, numbers and words."""

import re

import numpy as np
import pyarrow as pa

from data_prep.events import LONGEST_TEXT

INTEGER = "integer"
DECIMAL = "decimal"
NUMERIC = "non-negative number"
WORD = "word"
SIDE_FEATURE = "side feature"
#: Content of a column: one of the above, or all the words that are valid in it.
CellType = str | tuple[str, ...]
ARROW_TYPES = {
    INTEGER: pa.int64(),
    DECIMAL: pa.float64(),
    NUMERIC: pa.float64(),
    WORD: pa.string(),
    SIDE_FEATURE: pa.string(),
}
PATTERNS = {
    INTEGER: re.compile(r"^-?[0-9]+$", re.ASCII),
    DECIMAL: re.compile(r"^-?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?$", re.ASCII),
    NUMERIC: re.compile(r"^([0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?)?$", re.ASCII),
}
_INT64 = np.iinfo(np.int64)
_FLOAT64 = np.finfo(np.float64)
# Vocabularies are files of one word a line.
UNWRITABLE = re.compile("[\\n\\r\\ud800-\\udfff]")
_LONGEST_INTEGER = 40


def convert_cell(name: str, cell: str, cell_type: CellType) -> object:
    """A cell of text as a value of its type; raises ValueError with the reason if it is none."""
    if isinstance(cell_type, tuple):
        if cell not in cell_type:
            raise ValueError(
                f"unknown {name} {_shown(cell)}, expected one of {', '.join(cell_type)}"
            )
        return cell_type.index(cell)
    if cell_type in (WORD, SIDE_FEATURE):
        return cell
    if not PATTERNS[cell_type].fullmatch(cell):
        raise ValueError(f"{name} {_shown(cell)} is no {cell_type}")
    if cell_type == NUMERIC and not cell:
        return None
    if cell_type in (DECIMAL, NUMERIC):
        return checked_value(name, float(cell), DECIMAL)
    if len(cell) > _LONGEST_INTEGER:
        raise ValueError(f"{name} {_shown(cell)} is beyond int64")
    return checked_value(name, int(cell), cell_type)


def checked_value(name: str, value: object, cell_type: str) -> object:
    """A value of a parsed object if it is of the type; raises ValueError with the reason if not."""
    if value is None:
        raise ValueError(f"no {name}")
    shown = f"{name} {str(value)[:LONGEST_TEXT]!r}"
    if cell_type == WORD:
        if not isinstance(value, str):
            raise ValueError(f"{shown} is no text")
        if not value:
            raise ValueError(f"{name} is empty")
        if UNWRITABLE.search(value):
            raise ValueError(f"{shown} holds a line break or half a surrogate pair")
        return value
    if isinstance(value, bool) or not isinstance(
        value, int if cell_type == INTEGER else int | float
    ):
        raise ValueError(f"{shown} is no {cell_type}")
    if cell_type == INTEGER and not _INT64.min <= value <= _INT64.max:
        raise ValueError(f"{shown} is beyond int64")
    if cell_type == DECIMAL and not abs(value) <= _FLOAT64.max:
        raise ValueError(f"{shown} is not finite")
    # Arrow refuses integers that float64 rounds; its own parser rounds them.
    return float(value) if cell_type == DECIMAL else value


def _shown(cell: str) -> str:
    return repr(cell[:LONGEST_TEXT])


def arrow_type(cell_type: CellType) -> pa.DataType:
    return pa.uint8() if isinstance(cell_type, tuple) else ARROW_TYPES[cell_type]
