"""Extracts the states of all users of a data set: ENCODE's offline stage.

    python -m experiments.extract_interests --data_dir=D --export_dir=E --store=lmdb:S
    python -m experiments.extract_interests --data_dir=D --model_dir=M --store=lmdb:S

The first form runs the newest version of an export; `Ranker("E", states=store).rank_stored(user,
candidates)` scores from its states. The second runs the best weights of a training; its states are read
in Python by `dgin_tf.serving.extraction.load_state`. Either resumes when it is started again, and starts
over with other weights.
"""

import sys

from absl import flags
from tqdm import tqdm

from dgin_tf.commands import command_line
from dgin_tf.commands.memory import keep_freed_memory
from dgin_tf.inputs.pipeline import PreparedData
from dgin_tf.serving import extraction
from dgin_tf.serving.center.state_versions import StateVersions
from dgin_tf.serving.export.versions import open_bundle, state_version
from dgin_tf.stores.addresses import open_store
from experiments.running import runs

_DATA_DIR = flags.DEFINE_string("data_dir", None, "Prepared data set.", required=True)
_EXPORT_DIR = flags.DEFINE_string("export_dir", "", "Exported versions, or one of them.")
_MODEL_DIR = flags.DEFINE_string("model_dir", "", "A run, or a folder of seeds, not exported.")
_STORE = flags.DEFINE_string(
    "store", None, "lmdb:PATH or redis://host:port/db, where states go.", required=True
)
_NAMESPACE = flags.DEFINE_string(
    "namespace", "interests", "Where the states of --model_dir go; an export has its own."
)
_BATCH_USERS = flags.DEFINE_integer("batch_users", 256, "Users encoded at a time.", lower_bound=1)
_PROGRESS = flags.DEFINE_boolean("progress", True, "Draw a progress bar.")


def main(_: object) -> None:
    """Extracts, and prints the number of users and the throughput."""

    def bar(items, total, description):
        return tqdm(items, description, total, disable=not _PROGRESS.value, file=sys.stderr)

    if bool(_EXPORT_DIR.value) == bool(_MODEL_DIR.value):
        raise ValueError(
            "expected one of --export_dir, for states that an exported model is served from, and "
            f"--model_dir; got {'both' if _MODEL_DIR.value else 'neither'}."
        )
    keep_freed_memory()  # batches have one size; the allocator would return and fetch it every time
    data = PreparedData(_DATA_DIR.value)
    with open_store(_STORE.value, _NAMESPACE.value) as store:
        if _EXPORT_DIR.value:
            version_dir, metadata = open_bundle(_EXPORT_DIR.value)
            extract = extraction.extract_for_bundle(
                version_dir, data, store, _BATCH_USERS.value, bar
            )
            # From here on requests may be switched to this version.
            StateVersions(store, metadata["name"]).mark_warm(metadata)
            version = state_version(metadata)
        else:
            model, config = runs.load_model(_MODEL_DIR.value, data)
            extract = extraction.extract(
                model, data, store, config["data"]["max_history"], _BATCH_USERS.value, bar
            )
            version = extraction.weights_version(model)  # a hash: a run has no version number
    text = (
        f"{extract.users:,} users written, {extract.kept:,} kept, of weights {version}; "
        f"{extract.bytes / max(extract.users, 1):,.0f} bytes a user. {extract.seconds:.1f} s"
    )
    if extract.users_per_second:
        text += (
            f", of which {extract.first.seconds:.1f} for the first {extract.first.users:,}, compiling "
            f"included; then {extract.users_per_second:,.0f} users/s"
        )
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    command_line.run(main)
