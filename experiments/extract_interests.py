"""Extracts the states of all users of a data set: ENCODE's offline stage.

    python -m experiments.extract_interests --data_dir=D --export_dir=E --store=lmdb:S
    python -m experiments.extract_interests --data_dir=D --model_dir=M --store=lmdb:S

The first form runs the newest version of an export; `Ranker("E", states=store).rank(user, candidates)`
scores from its states. The second runs the best weights of a training; its states are read in Python by
`UserStates(store, model_metadata(model, namespace))`. Either resumes when it is started again, and starts
over with other weights.
"""

import functools
import sys

from absl import flags
from tqdm import tqdm

from dgin_tf.commands import command_line
from dgin_tf.commands.memory import keep_freed_memory
from dgin_tf.inputs.pipeline import PreparedData
from dgin_tf.serving.center.state_versions import StateVersions
from dgin_tf.serving.center.user_states import UserStates
from dgin_tf.serving.encode_users import (
    Encode,
    UserStateSink,
    encode_users,
    model_encoder,
    model_metadata,
)
from dgin_tf.serving.export.signatures import ENCODE_USER
from dgin_tf.serving.export.versions import state_version
from dgin_tf.serving.online.bundle_model import BundleModel
from dgin_tf.serving.user_records import RecordUsers
from dgin_tf.stores.addresses import open_store
from dgin_tf.whole_histories import limit_sentence
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
    if _EXPORT_DIR.value:
        bundle = BundleModel(_EXPORT_DIR.value)
        metadata, max_history = bundle.metadata, bundle.metadata["max_history"]
        encode: Encode = functools.partial(bundle.run, ENCODE_USER)
    else:
        model, config = runs.load_model(_MODEL_DIR.value, data)
        metadata, max_history = (
            model_metadata(model, _NAMESPACE.value),
            config["data"]["max_history"],
        )
        encode = model_encoder(model)
    users = RecordUsers(data, metadata, max_history)
    with open_store(_STORE.value) as store:
        sink = UserStateSink(UserStates(store, metadata))
        report = encode_users(users, encode, sink, _BATCH_USERS.value, bar)
        if _EXPORT_DIR.value:
            # From here on requests may be switched to this version.
            StateVersions(store, metadata["name"]).mark_warm(metadata, sink.incomplete)
    text = (
        f"{report.users:,} users written, {report.current:,} kept, of weights {state_version(metadata)}; "
        f"{report.bytes / max(report.users, 1):,.0f} bytes a user. {report.seconds:.1f} s"
    )
    if report.users_per_second:
        text += (
            f", of which {report.first.seconds:.1f} for the first {report.first.users:,}, compiling "
            f"included; then {report.users_per_second:,.0f} users/s"
        )
    sys.stdout.write(f"{text}\n{limit_sentence(data.manifest)}")


if __name__ == "__main__":
    command_line.run(main)
