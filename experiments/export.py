"""Exports a trained run as the next version of a bundle that TF Serving, or TensorFlow alone, serves.

    python -m experiments.export --data_dir=D --model_dir=M --export_dir=E [--state_type=bfloat16]

With a `--state_type` the states of users are stored in half or a quarter of the bytes, and the command prints
what that costs in AUC on the validation split.
"""

import sys

from absl import flags, logging

from dgin_tf.commands import command_line
from dgin_tf.inputs.pipeline import PreparedData
from dgin_tf.serving.export.bundle import usage
from dgin_tf.state_types import FLOAT32, STATE_TYPES
from experiments.running import publishing

_DATA_DIR = flags.DEFINE_string("data_dir", None, "Prepared data set.", required=True)
_MODEL_DIR = flags.DEFINE_string("model_dir", None, "A run, or a folder of seeds.", required=True)
_EXPORT_DIR = flags.DEFINE_string("export_dir", None, "Base path of the versions.", required=True)
_MODEL_NAME = flags.DEFINE_string("model_name", "", "Name for servers; the model's where empty.")
_STATE_TYPE = flags.DEFINE_enum(
    "state_type", FLOAT32, STATE_TYPES, "Number type that users' states are stored in."
)


def main(_: object) -> None:
    """Exports a run, and prints the commands that serve it."""
    logging.set_verbosity(logging.WARNING)  # TensorFlow reports every function that it saves
    data = PreparedData(_DATA_DIR.value)
    version = publishing.export_run(
        _MODEL_DIR.value, data, _EXPORT_DIR.value, _MODEL_NAME.value, _STATE_TYPE.value
    )
    sys.stdout.write(f"exported {version}\n{usage(version)}\n")
    if _STATE_TYPE.value != FLOAT32:
        with data.naming_damage():
            rounding = publishing.measure_states(_MODEL_DIR.value, data, _STATE_TYPE.value)
        sys.stdout.write(f"{rounding}\n")


if __name__ == "__main__":
    command_line.run(main)
