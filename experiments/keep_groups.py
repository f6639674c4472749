"""Computes the cached groups of all users that an exported DGIN is served from.

    python -m experiments.keep_groups --export_dir=E --index_dir=I --totals_store=lmdb:T \\
        --groups_store=lmdb:G

To be run after every export, before `experiments.serve --groups_store` serves it. Users whose state of
this version is up to date are skipped, so that the command resumes when it is started again.
"""

import functools
import sys

from absl import flags
from tqdm import tqdm

from dgin_tf.commands import command_line
from dgin_tf.stores.behavior_engine import BehaviorEngine
from experiments.running import store_flags

flags.adopt_module_key_flags(store_flags)  # --help lists them too
_EXPORT_DIR = flags.DEFINE_string(
    "export_dir", None, "Exported versions, or one of them.", required=True
)
_INDEX_DIR = flags.DEFINE_string("index_dir", None, "Behavior index.", required=True)
_GROUPS_STORE = flags.DEFINE_string(
    "groups_store", None, f"Where the states go: {store_flags.STORES}.", required=True
)
_BATCH = flags.DEFINE_integer("batch_users", 64, "Users in one call of the model.", lower_bound=1)
_PROGRESS = flags.DEFINE_boolean("progress", True, "Draw a progress bar.")


def main(_: object) -> None:
    """Computes the states, and prints their number and the throughput."""
    # TensorFlow takes seconds: after the flags.
    from dgin_tf.serving.encode_users import GroupSink, GroupUsers, encode_users
    from dgin_tf.serving.export.signatures import ENCODE_GROUPS
    from dgin_tf.serving.online.bundle_model import BundleModel
    from dgin_tf.serving.online.state_sources import GroupStates

    model = BundleModel(_EXPORT_DIR.value)
    if not model.metadata["groups"]:
        raise ValueError(f"model {model.name!r} has no groups; there is nothing to encode.")
    index = store_flags.open_index(_INDEX_DIR.value, model.schema)
    if not isinstance(index, BehaviorEngine):
        raise ValueError(
            "groups are encoded from an index and its totals; give --totals_store too."
        )
    groups = GroupStates(model, index, store_flags.open_store(_GROUPS_STORE.value))

    def bar(items, total, description):
        return tqdm(items, description, total, disable=not _PROGRESS.value)

    encode = functools.partial(model.run, ENCODE_GROUPS)
    users = GroupUsers(groups)
    report = encode_users(users, encode, GroupSink(groups.cache), _BATCH.value, bar)
    text = f"{report.users:,} states of {model.name} version {model.version_dir.name} made, "
    text += f"{report.current:,} were kept"
    if report.users_per_second:
        text += f"; {report.users_per_second:,.0f} users/s"
    sys.stdout.write(text + "\n")
    if users.damaged:
        sys.stderr.write(
            f"the totals of {len(users.damaged):,} users are damaged, who were skipped; "
            "experiments.build_index --totals_store counts their histories anew.\n"
        )


if __name__ == "__main__":
    command_line.run(main)
