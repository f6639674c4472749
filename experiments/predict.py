"""Writes a trained run's score of every example of a split, or of every row of a table of one's own.

    python -m experiments.predict --data_dir=D --model_dir=M --split=test --output=scores.parquet
    python -m experiments.predict --data_dir=D --model_dir=M --input=my.csv --output=scores.csv

The output is CSV or Parquet, by its name: `user`, `item`, `time`, `request` and `label` where there are any,
`score`, the probability of a click, and `history_length`, the events it was made from; nothing for padding.
Ids are those of the log.

Of a split, rows are sorted by the model's user id, time, request and item id. A table (CSV with a header, or
.parquet) has a user, an item and a time in each row; its order stays. A row is scored by what its user did in the
prepared log strictly before its time. Ids that the data set does not know count as unknown, and are counted.
"""

import sys

import pandas as pd
from absl import flags

from dgin_tf.commands import command_line
from dgin_tf.inputs.pipeline import BatchOptions, PreparedData
from dgin_tf.models.base import CTRModel
from dgin_tf.records import SPLITS
from dgin_tf.training.evaluation import Evaluator
from experiments.running import own_tables, predictions, runs

_DATA_DIR = flags.DEFINE_string("data_dir", None, "Prepared data set.", required=True)
_MODEL_DIR = flags.DEFINE_string("model_dir", None, "A run, or a folder of seeds.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "A .csv or .parquet file.", required=True)
_SPLIT = flags.DEFINE_enum("split", None, SPLITS, "Split to score; test without --input.")
_INPUT = flags.DEFINE_string("input", None, "Table to score, instead of a split.")
_USER_COLUMN = flags.DEFINE_string("user_column", "user_id", "Of --input.")
_ITEM_COLUMN = flags.DEFINE_string("item_column", "item_id", "Of --input.")
_TIME_COLUMN = flags.DEFINE_string("time_column", "timestamp", "Of --input.")
_LABEL_COLUMN = flags.DEFINE_string(
    "label_column", None, "Of --input, to be copied; by default label, where it is there."
)
_REQUEST_COLUMN = flags.DEFINE_string(
    "request_column", None, "Of --input, to be copied; by default request or request_id."
)
_TIME_UNIT = flags.DEFINE_enum(
    "time_unit", "s", [*own_tables.TIME_UNITS, own_tables.ISO], "Unit of --input's times."
)


def main(_: object) -> None:
    """Scores, writes the table, and prints how many rows it has and what was unknown."""
    if _INPUT.value and _SPLIT.value:
        raise ValueError("expected one of --split and --input; got both.")
    predictions.claim_file(_OUTPUT.value)
    if _INPUT.value:
        rows, more = own_tables.read_table(_INPUT.value, _names())
        seconds = own_tables.seconds_of(rows["time"], _TIME_UNIT.value)
    data = runs.open_data(_DATA_DIR.value, _MODEL_DIR.value)
    if _INPUT.value:
        data.whole_shards()  # before seconds of loading
    model, config = runs.load_model(_MODEL_DIR.value, data)
    options = BatchOptions(config["evaluation_rows"], config["data"]["max_history"])
    with data.naming_damage():
        if _INPUT.value:
            table, counts = own_tables.score_table(rows, seconds, data, model, options, more)
            text = (
                f"; of unknown users {counts.unknown_users:,}, of unknown items {counts.unknown_items:,}, without "
                f"an event before their time {counts.without_history:,}"
            )
            if counts.unknown_fields:
                text += f"; without a column of its name, unknown in all rows: {', '.join(counts.unknown_fields)}"
        else:
            table, text = _split_table(data, model, options), ""
    predictions.write(table, _OUTPUT.value)
    sys.stdout.write(f"{len(table):,} scores in {_OUTPUT.value}{text}\n")


def _split_table(data: PreparedData, model: CTRModel, options: BatchOptions) -> pd.DataFrame:
    columns = predictions.columns(data)
    batches = data.evaluation(_SPLIT.value or "test", options, model.input_transforms)
    scores = Evaluator(model, list(columns.values())).score(batches)
    return predictions.table(scores, columns, data)


def _names() -> own_tables.ColumnNames:
    return own_tables.ColumnNames(
        _USER_COLUMN.value,
        _ITEM_COLUMN.value,
        _TIME_COLUMN.value,
        _LABEL_COLUMN.value,
        _REQUEST_COLUMN.value,
        _TIME_UNIT.value,
    )


if __name__ == "__main__":
    command_line.run(main)
