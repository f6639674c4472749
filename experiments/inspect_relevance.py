"""Prints the relevance indicator of ENCODE's table 3 for any trained models of long histories.

    python -m experiments.inspect_relevance --data_dir=D --model_dirs=encode=M1,eta=M2 \\
        --reference_dir=M3

The indicator is a model's cross-entropy against the attention of the reference, a `din_long`; the lower,
the nearer.
"""

import sys

from absl import flags

from dgin_tf.commands import command_line
from dgin_tf.inputs.pipeline import PreparedData
from dgin_tf.records import SPLITS
from experiments.analysis import relevance
from experiments.running import run_names

_DATA_DIR = flags.DEFINE_string("data_dir", None, "Prepared data set.", required=True)
_MODEL_DIRS = flags.DEFINE_list("model_dirs", None, "Runs, NAME=PATH each.", required=True)
_REFERENCE_DIR = flags.DEFINE_string("reference_dir", None, "Run of a din_long.", required=True)
_SPLIT = flags.DEFINE_enum("split", "test", SPLITS, "Whose histories to look at.")
_BATCHES = flags.DEFINE_integer("batches", 8, "Batches to read.", lower_bound=1)


def main(_: object) -> None:
    """Prints the indicators."""
    model_dirs = run_names.named(_MODEL_DIRS.value)
    data = PreparedData(_DATA_DIR.value)
    with data.naming_damage():
        indicators = relevance.indicators(
            model_dirs, _REFERENCE_DIR.value, data, _SPLIT.value, _BATCHES.value
        )
    sys.stdout.write("".join(f"{name}: {value:.3f}\n" for name, value in indicators.items()))


if __name__ == "__main__":
    command_line.run(main)
