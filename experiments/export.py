"""Exports a trained run as the next version of a bundle that TF Serving, or TensorFlow alone, serves.

python -m experiments.export --data_dir=D --model_dir=M --export_dir=E
"""

import sys

from absl import flags, logging

from dgin_tf.commands import command_line
from dgin_tf.inputs.pipeline import PreparedData
from dgin_tf.serving.export.bundle import usage
from experiments.running import publishing

_DATA_DIR = flags.DEFINE_string("data_dir", None, "Prepared data set.", required=True)
_MODEL_DIR = flags.DEFINE_string("model_dir", None, "A run, or a folder of seeds.", required=True)
_EXPORT_DIR = flags.DEFINE_string("export_dir", None, "Base path of the versions.", required=True)
_MODEL_NAME = flags.DEFINE_string("model_name", "", "Name for servers; the model's where empty.")


def main(_: object) -> None:
    """Exports a run, and prints the commands that serve it."""
    logging.set_verbosity(logging.WARNING)  # TensorFlow reports every function that it saves
    data = PreparedData(_DATA_DIR.value)
    version = publishing.export_run(_MODEL_DIR.value, data, _EXPORT_DIR.value, _MODEL_NAME.value)
    sys.stdout.write(f"exported {version}\n{usage(version)}\n")


if __name__ == "__main__":
    command_line.run(main)
