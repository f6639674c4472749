"""Draws a trained model's attention to some users' histories, and writes the run's report.html.

python -m experiments.inspect_model --data_dir=D --model_dir=M --users=3 --candidates=4
"""

import sys

from absl import flags

from dgin_tf.commands import command_line
from dgin_tf.inputs.pipeline import PreparedData
from dgin_tf.records import SPLITS
from experiments.running import publishing

_DATA_DIR = flags.DEFINE_string("data_dir", None, "Prepared data set.", required=True)
_MODEL_DIR = flags.DEFINE_string("model_dir", None, "A run, or a folder of seeds.", required=True)
_OUTPUT_DIR = flags.DEFINE_string(
    "output_dir", "", "Where plots go; the run's directory where empty."
)
_SPLIT = flags.DEFINE_enum("split", "test", SPLITS, "Whose histories to look at.")
_USERS = flags.DEFINE_integer("users", 3, "Users to draw.", lower_bound=1)
_CANDIDATES = flags.DEFINE_integer("candidates", 4, "Candidates for each.", lower_bound=1)


def main(_: object) -> None:
    """Writes the report and prints its path."""
    path = publishing.write_report(
        _MODEL_DIR.value,
        PreparedData(_DATA_DIR.value),
        _OUTPUT_DIR.value,
        _USERS.value,
        _CANDIDATES.value,
        _SPLIT.value,
    )
    sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    command_line.run(main)
