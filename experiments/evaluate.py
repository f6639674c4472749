"""Evaluates a trained run on a split of a prepared data set and prints the metrics as JSON.

python -m experiments.evaluate --data_dir=D --model_dir=M --split=test
"""

import json
import sys

from absl import flags

from dgin_tf.commands import command_line
from dgin_tf.inputs.pipeline import BatchOptions, PreparedData
from dgin_tf.records import SPLITS
from dgin_tf.training import loop
from dgin_tf.training.evaluation import Evaluator
from experiments.running import runs

_DATA_DIR = flags.DEFINE_string("data_dir", None, "Prepared data set.", required=True)
_MODEL_DIR = flags.DEFINE_string("model_dir", None, "A run, or a folder of seeds.", required=True)
_SPLIT = flags.DEFINE_enum("split", "test", SPLITS, "Split to score.")


def main(_: object) -> None:
    """Scores the split and prints its metrics."""
    data = PreparedData(_DATA_DIR.value)
    model, config = runs.load_model(_MODEL_DIR.value, data)
    options = BatchOptions(config["evaluation_rows"], config["data"]["max_history"])
    with data.naming_damage():
        batches = data.evaluation(_SPLIT.value, options, model.input_transforms)
        metrics = Evaluator(model).evaluate(batches)
    sys.stdout.write(json.dumps(loop.without_nan(metrics), indent=2) + "\n")


if __name__ == "__main__":
    command_line.run(main)
