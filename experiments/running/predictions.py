"""Scores as a table: who, what, when, the label, and the model's probability, an example a row."""

import os
import pathlib
from collections.abc import Mapping

import numpy as np
import pandas as pd
import scipy.special

from dgin_tf.hashed_ids import RawIds
from dgin_tf.inputs.pipeline import PreparedData
from dgin_tf.ownership import claim
from dgin_tf.schema import (
    CANDIDATE,
    ITEM,
    RECORDED_IDS,
    REQUEST,
    TIMESTAMP,
    USER,
    USER_ID,
    Field,
    feature_name,
    recorded,
    replacing,
)
from dgin_tf.serving.export.vocabularies import Vocabularies

WRITTEN = "predictions of a run"
FORMATS = (".csv", ".parquet")
SCORE, HISTORY_LENGTH = "score", "history_length"
_WANTED = {
    "user": (USER, USER_ID),
    "item": (CANDIDATE, ITEM),
    "time": (CANDIDATE, TIMESTAMP),
    "request": (CANDIDATE, REQUEST),
}


def columns(data: PreparedData) -> dict[str, str]:
    """Column of the table -> feature of a batch, of those that the data set has."""

    def name_of(role: str, field: Field) -> str:
        name = feature_name(role, field)
        return recorded(name) if data.keeps_later_ids and name in RECORDED_IDS else name

    return {
        column: name_of(role, field)
        for column, (role, name) in _WANTED.items()
        for field in data.schema.with_role(role)
        if field.name == name
    }


def table(
    scores: Mapping[str, np.ndarray], columns: Mapping[str, str], data: PreparedData
) -> pd.DataFrame:
    """Makes the table of a split, a row for every example.

    Rows are sorted by the model's user id, time, request and item id, whatever the size of a batch. An item out
    of the vocabulary has no raw id in a prepared data set, and is left empty.

    Args:
      scores: what `Evaluator.score` returns with the features of `columns`.
      columns: as the function `columns` gives them.
      data: the data set.

    Returns:
      `user` and `item`, the ids of the log, or where the data set has no vocabulary those of the model; `time`
      in seconds; `request` where there is one; `label`, `score` and `history_length`, the events that the
      example was scored with.
    """
    rows = pd.DataFrame({column: scores[name] for column, name in columns.items()})
    rows["label"] = scores["labels"].astype(int)
    rows[SCORE] = probabilities(scores)
    rows[HISTORY_LENGTH] = scores["history_lengths"]
    keys = [name for name in ("user", "time", "request", "item") if name in rows]
    rows = rows.sort_values(keys, kind="stable", ignore_index=True)
    vocabularies = Vocabularies(data.data_dir)
    for column, field in (("user", USER_ID), ("item", ITEM)):
        if column in rows and (name := data.schema.field(field).vocabulary) in vocabularies:
            rows[column] = _raw(vocabularies[name], rows[column].to_numpy())
    return rows


def probabilities(scores: Mapping[str, np.ndarray]) -> np.ndarray:
    """Probabilities of what `Evaluator.score` returns, float64 [examples]."""
    return scipy.special.expit(scores["logits"].astype(np.float64))


def claim_file(path: str | os.PathLike) -> None:
    """Makes sure that a table may be written to a path, before the work that makes it.

    Raises:
      ValueError: its name ends in no known format, or it is somebody else's file.
    """
    path = pathlib.Path(path)
    if path.suffix not in FORMATS:
        raise ValueError(
            f"expected a file of predictions that ends in {' or '.join(FORMATS)}; got {str(path)!r}."
        )
    claim(path.parent, WRITTEN, [path.name])


def write(rows: pd.DataFrame, path: str | os.PathLike) -> None:
    """Writes a table as CSV or Parquet, by the ending of its name, whole or not at all."""
    with replacing(path) as temporary:
        if pathlib.Path(path).suffix == ".csv":
            rows.to_csv(temporary, index=False, float_format="%.9g")
        else:
            rows.to_parquet(temporary, index=False)


def _raw(vocabulary: RawIds, ids: np.ndarray) -> pd.Series:
    """Raw values of dense ids, missing where an id stands for no one value."""
    raw = np.full(max(vocabulary.values(), default=0) + 1, None, object)
    for value, number in vocabulary.items():
        raw[number] = value
    return pd.Series(
        np.where(ids < len(raw), raw[np.minimum(ids, len(raw) - 1)], None), dtype=object
    )
