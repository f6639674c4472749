"""Guesses role and kind of a table's columns from its first rows, and says why."""

import csv
import dataclasses
import os
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from data_prep.columns import (
    BUCKETED,
    CATEGORICAL,
    LIST_SEPARATOR,
    MULTI_VALUED,
    OF_ITEMS,
    STANDARDIZED,
)
from data_prep.readers.rows import first_lines, header_cells
from data_prep.stages.columns import UNKNOWN_NUMBERS, parse_numbers
from dgin_tf.schema import CONTEXT, USER

_SEPARATORS = (",", "\t", ";", "|")
# Of lists, with how often a value of theirs comes back at least: commas and spaces are in sentences too.
_LIST_SEPARATORS = {LIST_SEPARATOR: 0.0, "|": 1.2, ";": 1.2, ",": 2.0, " ": 2.0}
_FEW = 30  # different numbers that are rather names of something
_LONG = 60  # characters of a text that nobody repeats
_MOSTLY = 0.98  # of users whose rows agree, where a column is theirs


@dataclasses.dataclass(frozen=True)
class Proposal:
    """What a column looks like.

    Attributes:
      name: of the column in the table.
      role, kind: as a file of columns has them; empty where the column had better be left out.
      reason: what speaks for it, in words.
      settings: further keys of the column's entry.
    """

    name: str
    role: str
    kind: str
    reason: str
    settings: Mapping[str, object] = dataclasses.field(default_factory=dict)


def read_sample(path: str, rows: int) -> pd.DataFrame:
    """The first rows of a table as text; elements of lists are joined by `LIST_SEPARATOR`.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it has no line of column names and a row below, or is no Parquet file.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"no table {path!r} to look at; give the path of a log.")
    if path.endswith(".parquet"):
        return _parquet_sample(path, rows)
    headers = {text: header_cells(path, text) for text in _SEPARATORS}
    separator = max(headers, key=lambda text: len(headers[text]))
    names = [cell.strip() for cell in headers[separator]]
    lines = [line.decode("utf-8", "replace") for line in first_lines(path, rows + 1)[1:]]
    cells = [row for row in csv.reader(lines, delimiter=separator) if len(row) == len(names)]
    if not cells or len(set(names)) != len(names):
        raise ValueError(
            f"{path}: expected a first line of different column names and rows of as many cells; got "
            f"{','.join(names)[:200]!r} with {len(cells)} such rows."
        )
    return pd.DataFrame(cells, columns=names, dtype=object)


def _parquet_sample(path: str, rows: int) -> pd.DataFrame:
    try:
        with pa.parquet.ParquetFile(path) as file:
            batch = next(file.iter_batches(rows), None)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path}: expected a Parquet file; got {error}.") from error
    if batch is None or not len(batch):
        raise ValueError(f"{path}: expected at least one row; got none.")

    def text(value: object) -> str:
        if isinstance(value, list):
            return LIST_SEPARATOR.join(str(part) for part in value) + LIST_SEPARATOR
        return "" if value is None else str(value)

    return pd.DataFrame(
        {n: list(map(text, batch.column(n).to_pylist())) for n in batch.schema.names}
    )


def propose(
    table: pd.DataFrame, role: str, user: str | None, item: str | None, skip: Collection[str]
) -> list[Proposal]:
    """A proposal for each column.

    Args:
      table: cells as text.
      role: of all columns, `item` or `user`; empty for a log, whose columns are of users or of requests.
      user, item: columns of the keys in a log.
      skip: columns that have a part already.
    """
    proposals = []
    for name in table.columns:
        if name in skip:
            proposals.append(Proposal(name, "", "", "has a part of its own"))
            continue
        cells = table[name]
        kind, reason, settings = _kind(name, cells)
        of_column, why = role, ""
        if kind and not role:
            of_column, why = _role(table, name, user, item)
        if not of_column:
            kind = ""
        proposals.append(Proposal(name, of_column if kind else "", kind, reason + why, settings))
    return proposals


def _kind(name: str, cells: pd.Series) -> tuple[str, str, dict[str, object]]:
    """Kind of a column, what speaks for it, and its settings; an empty kind where it says nothing."""
    known = cells[~cells.str.strip().str.lower().isin(UNKNOWN_NUMBERS)]
    different = known.nunique()
    missing = f", {1 - len(known) / len(cells):.0%} missing" if len(known) < len(cells) else ""
    if different < 2:
        return "", f"{different} different value" + "s" * (different != 1) + missing, {}
    is_list = known.str.contains(LIST_SEPARATOR, regex=False).any()
    if not is_list and different > 0.95 * len(known) and known.str.len().mean() > _LONG:
        return "", f"long texts of which {different:,} are different", {}
    if (found := _list_separator(known)) is not None:
        separator, lengths = found
        settings: dict[str, object] = {"values": int(max(1, np.percentile(lengths, 99)))}
        if separator != LIST_SEPARATOR:
            settings = {"separator": separator, **settings}
        shown = "lists" if separator == LIST_SEPARATOR else f"lists between {separator!r}"
        return MULTI_VALUED, f"{shown} of up to {int(lengths.max())} values" + missing, settings
    numbers, wrong = parse_numbers(known)
    if not wrong.any():
        return *_kind_of_numbers(name, numbers, different, missing), {}
    return CATEGORICAL, f"{different:,} different words" + missing, {}


def _kind_of_numbers(name: str, numbers: np.ndarray, different: int, missing: str):
    whole = bool((numbers == np.floor(numbers)).all())
    if whole and (different <= _FEW or name.lower().endswith("id")):
        return CATEGORICAL, f"{different:,} different whole numbers" + missing
    deviation = numbers.std()
    skew = abs(np.mean(((numbers - numbers.mean()) / deviation) ** 3)) if deviation else 0.0
    span = f"numbers from {numbers.min():g} to {numbers.max():g}"
    if skew < 1:
        return STANDARDIZED, f"{span}, about evenly on both sides of their mean" + missing
    return BUCKETED, f"{span}, far more on one side of their mean" + missing


def _list_separator(cells: pd.Series) -> tuple[str, np.ndarray] | None:
    """Separator of cells that are lists, and their lengths; None where they are none."""
    words = pd.Series(cells.unique())
    for separator, least in _LIST_SEPARATORS.items():
        if not words.str.contains(separator, regex=False).any():
            continue
        lists = [[part for part in word.split(separator) if part.strip()] for word in words]
        lengths = np.array([len(parts) for parts in lists])
        members = {part for parts in lists for part in parts}
        repeats = lengths.sum() / max(len(members), 1)
        # Parts of lists come back in other lists, which parts of a sentence or a date hardly do.
        if separator == LIST_SEPARATOR or ((lengths > 1).mean() > 0.05 and repeats > least):
            digits = all(part.strip().replace(".", "", 1).isdigit() for part in members)
            if separator != " " or not digits:
                return separator, lengths
    return None


def _role(table: pd.DataFrame, name: str, user: str | None, item: str | None) -> tuple[str, str]:
    """Role of a column of a log, and why; empty where it belongs into a table of items."""
    cells = table[name]
    known = cells.where(~cells.str.strip().str.lower().isin(UNKNOWN_NUMBERS))
    for key, role in ((user, USER), (item, OF_ITEMS)):
        if key is None:
            continue
        groups = known.groupby(table[key]).agg(["nunique", "count"])
        several = groups[groups["count"] > 1]
        if len(several) > 1 and (several["nunique"] == 1).mean() >= _MOSTLY:
            if role == USER:
                return USER, f"; the same in all rows of a {key}"
            return "", f"; the same in all rows of an {key}: put it into a table of items"
    return CONTEXT, "; differs between rows of one user"


def guess(names: Sequence[str], given: str, words: Sequence[str]) -> str | None:
    """The given column, or the first one whose name contains one of some words; None without."""
    if given:
        return given
    return next((n for w in words for n in names if w in n.lower()), None)


def as_yaml(
    tables: Mapping[str, str], proposals: Sequence[Proposal], names: Mapping[str, str]
) -> str:
    """A file of columns with the reasons as comments.

    Args:
      tables: `item_table` and `user_table`, where there are.
      proposals: of all tables.
      names: column -> name of it in the file, where it needs another one.
    """
    lines = [f"{key}: {_quoted(path)}" for key, path in tables.items()]
    lines += ["columns:"]
    for proposal in (p for p in proposals if p.kind):
        entry = {"role": proposal.role, "kind": proposal.kind, **proposal.settings}
        name = names.get(proposal.name, proposal.name)
        if name != proposal.name:
            entry["column"] = proposal.name
        inside = ", ".join(f"{key}: {_quoted(value)}" for key, value in entry.items())
        lines.append(f"  {name}: {{{inside}}}  # {proposal.reason}")
    left_out = [f"#   {p.name}: {p.reason}" for p in proposals if not p.kind]
    return "\n".join([*lines, *(["# Left out:"] if left_out else []), *left_out]) + "\n"


def _quoted(value: object) -> str:
    """A value as YAML has it in one line."""
    if isinstance(value, str) and not value.replace("_", "").isalnum():
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return str(value)
