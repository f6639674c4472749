"""Extracts the states of all users of a data set with a run's best weights: ENCODE's offline stage.

    python -m experiments.extract_interests --data_dir=D --model_dir=M --store=lmdb:S

Stopped and started again, it goes on where it was; after another training it begins anew. A request
reads a state with `dgin_tf.serving.extraction.load_state` and gives it to `score_candidates`.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import sys  # noqa: E402

from absl import flags  # noqa: E402
from tqdm import tqdm  # noqa: E402

from dgin_tf import command_line  # noqa: E402
from dgin_tf.inputs.pipeline import PreparedData  # noqa: E402
from dgin_tf.processes import keep_freed_memory  # noqa: E402
from dgin_tf.serving import extraction  # noqa: E402
from dgin_tf.stores.addresses import open_store  # noqa: E402
from experiments import runs  # noqa: E402

_DATA_DIR = flags.DEFINE_string("data_dir", None, "Prepared data set.", required=True)
_MODEL_DIR = flags.DEFINE_string("model_dir", None, "A run, or a folder of seeds.", required=True)
_STORE = flags.DEFINE_string(
    "store", None, "lmdb:PATH or redis://host:port/db, where states go.", required=True
)
_NAMESPACE = flags.DEFINE_string("namespace", "interests", "Namespace of the store.")
_BATCH_USERS = flags.DEFINE_integer("batch_users", 256, "Users encoded at a time.", lower_bound=1)
_PROGRESS = flags.DEFINE_boolean("progress", True, "Draw a progress bar.")


def main(_: object) -> None:
    """Extracts, and prints how many users and how fast."""

    def bar(items, total, description):
        return tqdm(items, description, total, disable=not _PROGRESS.value, file=sys.stderr)

    keep_freed_memory()
    data = PreparedData(_DATA_DIR.value)
    model, config = runs.load_model(_MODEL_DIR.value, data)
    with open_store(_STORE.value, _NAMESPACE.value) as store:
        found = extraction.extract(
            model, data, store, config["data"]["max_history"], _BATCH_USERS.value, bar
        )
    version = extraction.weights_version(model)
    text = (
        f"{found.users:,} users written, {found.kept:,} kept, of weights {version}; "
        f"{found.bytes / max(found.users, 1):,.0f} bytes a user. {found.seconds:.1f} s"
    )
    if found.users_per_second:
        text += (
            f", of which {found.first.seconds:.1f} for the first {found.first.users:,}, compiling "
            f"included; then {found.users_per_second:,.0f} users/s"
        )
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    command_line.run(main)
