"""Shows users of prepared data in a browser: histories, ranked candidates, and what is behind a score.

    python -m experiments.explore --data_dir=D --model_dirs=din=M1,mimn=M2 --port=8600

Then open http://127.0.0.1:8600. The page loads nothing from a network; there is no authentication, so keep
it behind what you trust where `--host` listens to other machines.
"""

import importlib.util

from absl import flags

from dgin_tf.commands import command_line
from dgin_tf.records import SPLITS
from experiments.running import run_names

_DATA_DIR = flags.DEFINE_string("data_dir", None, "Prepared data set.", required=True)
_MODEL_DIRS = flags.DEFINE_list(
    "model_dirs", None, "Runs on these data, NAME=PATH each.", required=True
)
_SPLIT = flags.DEFINE_enum("split", "test", SPLITS, "Whose users are shown.")
_HOST = flags.DEFINE_string(
    "host", "127.0.0.1", "Address to listen on; this machine alone by default."
)
_PORT = flags.DEFINE_integer("port", 8600, "Port for HTTP; 0 for a free one.", 0, 65535)


def main(_: object) -> None:
    """Loads the runs and serves the page."""
    missing = [n for n in ("fastapi", "uvicorn") if importlib.util.find_spec(n) is None]
    if missing:
        raise ValueError(f"the page needs {' and '.join(missing)}; pip install 'dgin_tf[serve]'.")
    model_dirs = run_names.named(_MODEL_DIRS.value)
    from experiments.exploring import server  # TensorFlow takes seconds: after flags were checked

    explorer = server.load_explorer(_DATA_DIR.value, model_dirs, _SPLIT.value)
    server.serve(explorer, _HOST.value, _PORT.value)


if __name__ == "__main__":
    command_line.run(main)
