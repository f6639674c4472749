"""Columns that a log has beside its events, declared in a small YAML or JSON file by role and kind.

    item_table: items.csv        # one line an item, its key under --item_column
    user_table: users.csv        # one line a user; without it, user columns are the log's own
    columns:
      age:   {role: user, kind: bucketed, buckets: 8}
      hour:  {role: context, kind: categorical}
      tags:  {role: item, kind: multi_valued, separator: "|", values: 5}
      price: {role: item, kind: standardized}
      city:  {role: event, kind: categorical, column: town}

Paths are relative to the file. The part of a column without `column` is called as the column is.
"""

import dataclasses
import json
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import yaml

from data_prep.events import COLUMNS, IMPRESSION_COLUMNS
from dgin_tf.records import LABEL
from dgin_tf.schema import CANDIDATE, CONTEXT, HISTORY, PREFIX, USER, check_positive

OF_ITEMS, OF_EVENTS = "item", "event"
ROLES = (USER, CONTEXT, OF_ITEMS, OF_EVENTS)
CATEGORICAL, MULTI_VALUED = "categorical", "multi_valued"
BUCKETED, STANDARDIZED = "bucketed", "standardized"
KINDS = (CATEGORICAL, MULTI_VALUED, BUCKETED, STANDARDIZED)
NUMBERS = (BUCKETED, STANDARDIZED)

LIST_SEPARATOR = "\x1f"  # joins the elements of a list cell; no text contains it
MOST_VALUES = 8  # of a multi-valued column, where its file does not say

# Features are called `hist_<name>` and so on, beside those that batches have of their own.
_NAME = re.compile("(?!(group|negative|total)_)[a-z][a-z0-9_]*")
_RESERVED = {*COLUMNS, *IMPRESSION_COLUMNS, "users", "offsets", "histogram", "mask", "position"}
_KEYS = {"role", "kind", "column", "separator", "values", "buckets"}
_FILE_KEYS = {"item_table", "user_table", "columns"}


@dataclasses.dataclass(frozen=True)
class Column:
    """One declared column.

    Attributes:
      name: of the field of the schema; those of users and contexts begin with `user_` and `context_`.
      role: `user`, `context` (of a request), `item` or `event`.
      kind: `categorical` (any text), `multi_valued` (several), `bucketed` or `standardized` (numbers).
      column: its name in the table.
      separator: between the values of a multi-valued cell; lists of Parquet need none.
      values: ids of a multi-valued column that are kept, the first ones.
      buckets: of a bucketed number, about as many values in each.
    """

    name: str
    role: str
    kind: str
    column: str
    separator: str = "|"
    values: int = MOST_VALUES
    buckets: int = 10

    def __post_init__(self):
        for name, value, values in (("role", self.role, ROLES), ("kind", self.kind, KINDS)):
            if value not in values:
                raise ValueError(
                    f"expected the {name} of column {self.name!r} to be one of {', '.join(values)}; "
                    f"got {value!r}."
                )
        check_positive(values=self.values, buckets=self.buckets)
        bare = self.name.removeprefix(PREFIX.get(self.role, ""))
        if bare == LABEL:
            raise ValueError(
                f"a column cannot be called {LABEL}, the name of the click; call it otherwise, or name it by "
                "--label_column with --protocol=impressions."
            )
        if not is_name(bare, self.role):
            raise ValueError(
                "expected names of columns of small letters, digits and underscores, none of "
                f"{', '.join(sorted(_RESERVED))} or beginning with group_, negative_ or total_; got "
                f"{self.name!r}. Name the column of the table by `column`."
            )
        if not self.separator:
            raise ValueError(f"expected a separator for column {self.name!r}; got none.")
        if self.role == OF_EVENTS and self.kind in (MULTI_VALUED, STANDARDIZED):
            raise ValueError(
                f"column {self.name!r} of events cannot be {self.kind}; declare it as categorical or bucketed, "
                "or with another role."
            )

    @property
    def roles(self) -> tuple[str, ...]:
        """Roles of the field of the schema."""
        both, own = (HISTORY, CANDIDATE), {OF_EVENTS: (HISTORY,)}
        return both if self.role == OF_ITEMS else own.get(self.role, (self.role,))

    @property
    def is_number(self) -> bool:
        return self.kind in NUMBERS


@dataclasses.dataclass(frozen=True)
class DeclaredColumns:
    """What a file of columns declares, or the layout of a log.

    Attributes:
      columns: in the order of the file.
      item_table, user_table: paths of tables with one line an item or a user; empty without.
      path: of the file; empty without one.
    """

    columns: tuple[Column, ...] = ()
    item_table: str = ""
    user_table: str = ""
    path: str = ""

    def __post_init__(self):
        names = [column.name for column in self.columns]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"expected each column once; got {', '.join(twice)} twice.")

    def _of_role(self, role: str) -> tuple[Column, ...]:
        return tuple(column for column in self.columns if column.role == role)

    @property
    def of_items(self) -> tuple[Column, ...]:
        """Columns of the item table."""
        return self._of_role(OF_ITEMS)

    @property
    def of_user_table(self) -> tuple[Column, ...]:
        """Columns of the user table; empty without one."""
        return self._of_role(USER) if self.user_table else ()

    @property
    def of_log_users(self) -> tuple[Column, ...]:
        """Columns of users that stand in the log's rows."""
        return () if self.user_table else self._of_role(USER)

    @property
    def of_requests(self) -> tuple[Column, ...]:
        """Columns of the context of a request."""
        return self._of_role(CONTEXT)

    @property
    def of_events(self) -> tuple[Column, ...]:
        """Columns of past events."""
        return self._of_role(OF_EVENTS)

    @property
    def of_log(self) -> tuple[Column, ...]:
        """All columns that stand in the log's rows."""
        return (*self.of_log_users, *self.of_requests, *self.of_events)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "DeclaredColumns":
        """Reads a file; raises FileNotFoundError where there is none, ValueError where it is no such file."""
        path = pathlib.Path(path)
        if not path.is_file():
            raise FileNotFoundError(
                f"no file of columns {os.fspath(path)!r}; python -m data_prep.infer proposes one from a log."
            )
        try:
            text = path.read_text(encoding="utf-8")
            content = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
        except (ValueError, yaml.YAMLError, RecursionError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"{path} is no readable YAML or JSON ({reason}).") from None
        columns = content.get("columns") if isinstance(content, Mapping) else None
        if not isinstance(columns, Mapping) or set(content) - _FILE_KEYS:
            raise ValueError(
                f"{path}: expected the keys {', '.join(sorted(_FILE_KEYS))}, of which columns is a mapping "
                f"from names to {{role: ..., kind: ...}}; got {_shown(content)}."
            )
        tables = {}
        for key in ("item_table", "user_table"):
            value = content.get(key) or ""
            if not isinstance(value, str):
                raise ValueError(f"{path}: expected {key} to be a path; got {value!r}.")
            tables[key] = os.fspath(path.parent / value) if value else ""
        try:
            return cls(tuple(_column(*i) for i in columns.items()), **tables, path=os.fspath(path))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None


def is_name(name: str, role: str) -> bool:
    """True for what a column of a role may be called, without the prefix of users and contexts."""
    is_reserved = PREFIX.get(role, "") + name in _RESERVED
    return _NAME.fullmatch(name) is not None and not is_reserved


def _column(name: Any, entry: Any) -> Column:
    """A column from its entry in a file."""
    if not isinstance(name, str) or not isinstance(entry, Mapping):
        raise ValueError(
            f"expected column {name!r} as {{role: ..., kind: ...}}; got {_shown(entry)}."
        )
    unknown, missing = set(entry) - _KEYS, {"role", "kind"} - set(entry)
    if unknown or missing:
        raise ValueError(
            f"expected column {name!r} with the keys role and kind, and of {', '.join(sorted(_KEYS))} no "
            f"others; got {_shown(entry)}."
        )
    for key, value in entry.items():
        expected = int if key in ("values", "buckets") else str
        if not isinstance(value, expected) or isinstance(value, bool):
            raise ValueError(
                f"expected {key} of column {name!r} to be {'a number' if expected is int else 'text'}; "
                f"got {value!r}."
            )
    role = entry["role"]
    prefix = PREFIX[role] if role in (USER, CONTEXT) else ""
    full = name if name.startswith(prefix) else prefix + name
    return Column(full, **{"column": name, **entry})


def _shown(value: Any) -> str:
    return repr(value)[:200]
