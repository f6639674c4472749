"""Scores of a table of one's own: users, items and times as the log has them, by histories up to then."""

import dataclasses
import os
import pathlib
from collections.abc import Iterator

import numpy as np
import pandas as pd

from data_prep.readers import times as log_times
from dgin_tf.inputs.pipeline import BatchOptions, PreparedData
from dgin_tf.models.base import CTRModel
from dgin_tf.numeric_features import bucket_ids, encode_numbers
from dgin_tf.records import (
    LABEL,
    POSITION,
    Arrays,
    decode_record,
    encode_record,
    record_features,
    unknown_value,
)
from dgin_tf.schema import (
    CANDIDATE,
    CONTEXT,
    HISTORY,
    ITEM,
    NEGATIVE_RATE,
    PADDING_ID,
    PREFIX,
    REQUEST,
    SAMPLE_WEIGHT,
    TIMESTAMP,
    UNKNOWN_ID,
    USER,
    USER_ID,
    Field,
    Schema,
    feature_name,
)
from dgin_tf.serving.export.vocabularies import Vocabularies
from dgin_tf.training.evaluation import Evaluator
from experiments.running.predictions import HISTORY_LENGTH, SCORE, probabilities

TIME_UNITS = (log_times.SECONDS, log_times.MILLISECONDS, log_times.MICROSECONDS)
ISO = log_times.ISO
_LATEST = 1 << 36  # seconds; beyond it (the year 4147) times are in another unit
_CHUNK_RECORDS = 1024
_WIDEST_ROW = 64
_OPTIONAL = {"label": ("label",), "request": ("request", "request_id")}


@dataclasses.dataclass(frozen=True)
class ColumnNames:
    """Columns of a table by what they mean.

    Attributes:
      user, item, time: of the ids and the time of a row.
      label, request: None for `label`, and `request` or `request_id`, where the table has them.
      time_unit: of `TIME_UNITS`, or `ISO` for dates as text.
    """

    user: str = "user_id"
    item: str = "item_id"
    time: str = "timestamp"
    label: str | None = None
    request: str | None = None
    time_unit: str = "s"


@dataclasses.dataclass(frozen=True)
class Counts:
    """Rows of a table that a model knows little of.

    Attributes:
      unknown_users: rows of users that the model does not know.
      unknown_items: rows of items that it does not know.
      without_history: rows before which their user has no event.
      unknown_fields: candidate fields that neither the catalogue nor a column of the table has.
    """

    unknown_users: int
    unknown_items: int
    without_history: int
    unknown_fields: tuple[str, ...] = ()


def read_table(path: str | os.PathLike, names: ColumnNames) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Reads a table, in the order of the file.

    Returns:
      `user`, `item`, `time`, and where they are there `request` and `label`; and all columns as they are.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file cannot be read, or a column or a time is missing or no good.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"expected a table in {str(path)!r}, found no such file.")
    try:
        if path.suffix == ".parquet":
            raw = pd.read_parquet(path, dtype_backend="numpy_nullable")
        else:
            raw = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (ValueError, OSError) as error:  # pandas' and pyarrow's own errors are ValueErrors
        raise ValueError(
            f"{path} cannot be read as {'Parquet' if path.suffix == '.parquet' else 'CSV'} "
            f"({str(error).splitlines()[0]}); expected a CSV file with a header, or a .parquet file."
        ) from error
    wanted = {"user": names.user, "item": names.item, "time": names.time}
    for column, defaults in _OPTIONAL.items():
        name = getattr(names, column)
        if name is None:
            name = next((default for default in defaults if default in raw), None)
        if name is not None:
            wanted[column] = name
    if missing := [name for name in wanted.values() if name not in raw]:
        raise ValueError(
            f"{path} has no column {missing[0]!r}; it has {list(raw.columns)}. Name the columns with "
            "--user_column, --item_column and --time_column."
        )
    if not len(raw):
        raise ValueError(f"{path} has no rows; expected at least one.")
    return pd.DataFrame({column: raw[name] for column, name in wanted.items()}), raw


def seconds_of(times: pd.Series, unit: str) -> np.ndarray:
    """Times as whole seconds, int64 [rows].

    Raises:
      ValueError: a time is missing or of another form, or all are of another unit.
    """
    cells = times
    if unit != ISO:
        cells = pd.Series(
            pd.to_numeric(times, errors="coerce").to_numpy(np.float64, na_value=np.nan)
        )
    values, _, wrong = log_times.seconds_of(cells, unit)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise ValueError(
            f"expected times of unit {unit}; row {row + 1} has {times.iloc[row]!r}, and {wrong.sum():,} "
            f"rows have none. Correct them, or give --time_unit={'|'.join((*TIME_UNITS, ISO))}."
        )
    if abs(np.median(values)) > _LATEST:
        raise ValueError(
            f"expected times in the unit {unit}; half of them are beyond {int(np.median(values)):,} seconds. "
            "Give the table's --time_unit."
        )
    return values


def score_table(
    rows: pd.DataFrame,
    seconds: np.ndarray,
    data: PreparedData,
    model: CTRModel,
    options: BatchOptions,
    more: pd.DataFrame | None = None,
) -> tuple[pd.DataFrame, Counts]:
    """Scores rows by what their users did strictly before, and keeps their order.

    Args:
      rows: as `read_table` gives them, in the ids of the log.
      seconds: time of each row, [rows].
      data: with whole histories, of which those before a row's time count.
      model: built, of the same schema.
      options: how batches are made.
      more: columns by the names of candidate fields that the catalogue does not have, [rows].

    Returns:
      The rows with `score` and `history_length`, the events that each was scored with; and `Counts`.

    Raises:
      ValueError: the data have no whole histories or no vocabularies.
    """
    candidates = _Candidates(rows, seconds, data, pd.DataFrame() if more is None else more)
    batches = data.of_records(
        candidates.chunks, options, candidates.row_width, model.input_transforms
    )
    scores = Evaluator(model).score(batches)
    # What was scored is in the order of the records.
    order = np.concatenate(candidates.order)
    score, length = np.empty(len(rows)), np.empty(len(rows), np.int64)
    score[order], length[order] = probabilities(scores), scores["history_lengths"]
    counts = Counts(
        candidates.unknown(USER_ID, candidates.users),
        candidates.unknown(ITEM, candidates.fields[ITEM]),
        int((length == 0).sum()),
        tuple(candidates.unknown_fields),
    )
    return rows.assign(**{SCORE: score, HISTORY_LENGTH: length}), counts


class _Candidates:
    """Rows of a table as candidates in the records of their users.

    Attributes:
      users: dense id of each row's user, [rows].
      unknown_fields: candidate fields that nothing tells.
      fields: candidate field -> values, [rows].
      order: rows in the order of the records that `chunks` gave last.
    """

    def __init__(
        self, rows: pd.DataFrame, seconds: np.ndarray, data: PreparedData, more: pd.DataFrame
    ):
        self._data, self._schema, self._more = data, data.schema, more
        self.unknown_fields: list[str] = []
        self._vocabularies = Vocabularies(data.data_dir)
        data.whole_shards()  # before anything is looked up
        self.users = self._ids(USER_ID, rows["user"])
        items = self._ids(ITEM, rows["item"])
        self.fields = {
            field.name: self._values(field, items, seconds)
            for role in (CANDIDATE, CONTEXT)
            for field in self._schema.with_role(role)
        }
        # Rows of one user follow each other by time, and those of one time share a row of a batch.
        self._sorted = np.lexsort((np.arange(len(rows)), seconds, self.users))
        self._seconds = seconds
        self.order: list[np.ndarray] = []

    @property
    def row_width(self) -> int:
        """Candidates of a row of a batch, such that few of them are padding."""
        pairs = np.stack([self.users, self._seconds])
        counts = np.unique(pairs, axis=1, return_counts=True)[1]
        return int(min(np.quantile(counts, 0.9, method="lower"), _WIDEST_ROW))

    def chunks(self) -> Iterator[tuple[list[bytes], int]]:
        """Records of users with their rows as candidates, and the longest history that they may have."""
        self.order = []
        users = self.users[self._sorted]
        starts = np.flatnonzero(np.append(True, users[1:] != users[:-1]))
        own = dict(zip(users[starts].tolist(), np.split(self._sorted, starts[1:]), strict=True))
        blank = _blank_user(self._schema)
        unknown = own.pop(UNKNOWN_ID, np.zeros(0, np.int64))
        for first in range(0, len(unknown), _CHUNK_RECORDS):
            yield [self._record(blank, unknown[first : first + _CHUNK_RECORDS])], 1
        waiting: dict[int, list[tuple[Arrays, np.ndarray]]] = {}
        for length, payload in self._data.whole_records():
            user = decode_record(self._schema, payload)
            rows = own.pop(int(user[USER_ID][0]), None)
            if rows is not None:
                records = waiting.setdefault(length, [])
                records.append((user, rows))
                if len(records) == _CHUNK_RECORDS:
                    yield [self._record(*pair) for pair in waiting.pop(length)], length
        for length, records in waiting.items():
            yield [self._record(*pair) for pair in records], length
        for number, rows in own.items():  # of a vocabulary that has more users than the log
            yield [self._record({**blank, USER_ID: np.array([number], np.int32)}, rows)], 1

    def unknown(self, name: str, ids: np.ndarray) -> int:
        """Number of rows whose id the model does not know."""
        size = self._schema.vocabulary_sizes[self._schema.field(name).vocabulary]
        return int(((ids == UNKNOWN_ID) | (ids >= size)).sum())

    def _record(self, user: Arrays, rows: np.ndarray) -> bytes:
        """One user's record with candidates, each of which sees the events before its second."""
        times = user[PREFIX[HISTORY] + TIMESTAMP]
        self.order.append(rows)
        candidates = {
            feature_name(role, field): self.fields[field.name][rows]
            for role in (CANDIDATE, CONTEXT)
            for field in self._schema.with_role(role)
        }
        candidates[POSITION] = np.searchsorted(times, self._seconds[rows], side="left")
        candidates[LABEL] = np.zeros(len(rows), np.int32)
        return encode_record(self._schema, {**user, **candidates})

    def _ids(self, name: str, raw: pd.Series) -> np.ndarray:
        """Dense ids of raw values, int32 [rows]; unknown where a value is missing or not in the vocabulary."""
        values, distinct = pd.factorize(raw.astype("string"), use_na_sentinel=True)
        vocabulary = self._vocabularies[self._schema.field(name).vocabulary]
        ids = np.array([vocabulary.get(value, UNKNOWN_ID) for value in distinct], np.int32)
        return np.append(ids, np.int32(UNKNOWN_ID))[values]  # -1, of missing values, is the last

    def _values(self, field: Field, items: np.ndarray, seconds: np.ndarray) -> np.ndarray:
        """Values of a candidate field, [rows]."""
        if field.name == ITEM:
            return items
        if field.name == TIMESTAMP:
            return seconds
        if field.name in (REQUEST, SAMPLE_WEIGHT, NEGATIVE_RATE):  # of training and evaluation
            return np.zeros(len(items), np.int64)
        for name in (field.name, field.name.removeprefix(PREFIX[CONTEXT])):
            if name in self._more:
                return self._column(field, self._more[name])
        attributes = self._data.catalogue.get(field.name)
        if attributes is not None:
            return attributes[items].astype(field.dtype)
        self.unknown_fields.append(field.name)
        if field.is_numeric:
            return encode_numbers(np.full(len(items), np.nan))
        return np.tile(unknown_value(field), (len(items), *[1] * len(field.shape)))

    def _column(self, field: Field, column: pd.Series) -> np.ndarray:
        """Values of a field from a column of the table: lists, or texts with | between several ids."""
        if field.values > 1:
            parts = [cell.split("|") if isinstance(cell, str) else cell for cell in column]
            lists = [list(part) if np.ndim(part) else [] for part in parts]
            places = pd.DataFrame(
                {
                    place: [part[place] if place < len(part) else "" for part in lists]
                    for place in range(field.values)
                }
            )
            known = (places.notna() & (places != "")).to_numpy()
            ids = [self._ids(field.name, places[place]) for place in places]
            return np.where(known, np.stack(ids, axis=1), PADDING_ID).astype(np.int32)
        if field.is_categorical and not field.boundaries:
            return self._ids(field.name, column)
        numbers = pd.to_numeric(column, errors="coerce").to_numpy(np.float64, na_value=np.nan)
        if field.boundaries:
            return bucket_ids(numbers, field.boundaries)
        return numbers.astype(np.float32) if field.is_standardized else encode_numbers(numbers)


def _blank_user(schema: Schema) -> Arrays:
    """Record of an unknown user, without events and without candidates."""
    dtypes = record_features(schema)
    arrays = {}
    for field in schema.with_role(HISTORY):
        name = feature_name(HISTORY, field)
        arrays[name] = np.zeros((0, *field.shape), dtypes[name])
    for field in schema.with_role(USER):
        arrays[feature_name(USER, field)] = unknown_value(field)[np.newaxis]
    return arrays
