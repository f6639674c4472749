"""Predictions of a split as a table: who, what, when, the label, and the model's probability."""

import os
from collections.abc import Mapping

import numpy as np
import pandas as pd
import scipy.special

from dgin_tf.inputs.pipeline import PreparedData
from dgin_tf.inspection.traces import VOCABULARY, Names
from dgin_tf.schema import CANDIDATE, ITEM, TIMESTAMP, USER, USER_ID, feature_name

_WANTED = {"user": (USER, USER_ID), "item": (CANDIDATE, ITEM), TIMESTAMP: (CANDIDATE, TIMESTAMP)}


def columns(data: PreparedData) -> dict[str, str]:
    """Column of the table -> feature of a batch, of those that the data set has."""
    return {
        column: feature_name(role, field)
        for column, (role, name) in _WANTED.items()
        for field in data.schema.with_role(role)
        if field.name == name
    }


def table(
    scores: Mapping[str, np.ndarray], columns: Mapping[str, str], data: PreparedData
) -> pd.DataFrame:
    """Makes the table, a row for every candidate in the order of the split.

    Args:
      scores: what `Evaluator.score` returns with the features of `columns`.
      columns: as the function `columns` gives them.
      data: the data set.

    Returns:
      `user` and `item`, the ids that the model sees, `timestamp` in seconds, `history_length`, `label`
      and `probability`; and `raw_user` and `raw_item`, ids of the log, where there are vocabularies.
    """
    rows = pd.DataFrame({column: scores[name] for column, name in columns.items()})
    rows["history_length"] = scores["history_lengths"]
    rows["label"] = scores["labels"].astype(int)
    rows["probability"] = scipy.special.expit(scores["logits"].astype(np.float64))
    names = Names(data.data_dir)
    for column, field in (("user", USER_ID), ("item", ITEM)):
        if column in rows:
            vocabulary = data.schema.field(field).vocabulary
            if os.path.isfile(os.path.join(data.data_dir, VOCABULARY, f"{vocabulary}.txt")):
                rows[f"raw_{column}"] = names.of(vocabulary, rows[column].to_numpy())
    return rows
