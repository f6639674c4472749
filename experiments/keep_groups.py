"""Computes the cached groups of all users that an exported DGIN is served from.

    python -m experiments.keep_groups --export_dir=E --index_dir=I --totals_store=lmdb:T \\
        --groups_store=lmdb:G

To be run after every export, before `experiments.serve --groups_store` serves it. Users whose state of
this version is up to date are skipped, so that the command resumes when it is started again.
"""

import sys
import time

from absl import flags
from tqdm import tqdm

from dgin_tf.commands import command_line
from dgin_tf.schema import Schema
from dgin_tf.stores.behavior_engine import BehaviorEngine
from experiments.running import store_flags

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
    from dgin_tf.serving.export.versions import (
        ASSETS,  # TensorFlow takes seconds: after the flags
        open_bundle,
    )
    from dgin_tf.serving.online.ranker import Ranker

    version, metadata = open_bundle(_EXPORT_DIR.value)
    if not metadata.get("kept"):
        raise ValueError(f"model {metadata['name']!r} keeps no groups; there is nothing to make.")
    index = store_flags.open_index(_INDEX_DIR.value, Schema.load(version / ASSETS))
    if not isinstance(index, BehaviorEngine):
        raise ValueError("groups are made of an index and its totals; give --totals_store too.")
    ranker = Ranker(version, index=index, states=store_flags.open_store(_GROUPS_STORE.value))
    users = list(index.users())
    count, first, start_time = 0, 0, time.monotonic()
    with tqdm(total=len(users), desc="groups", disable=not _PROGRESS.value) as bar:
        for start in range(0, len(users), _BATCH.value):
            batch = users[start : start + _BATCH.value]
            count += ranker.keep_states(batch)
            bar.update(len(batch))
            if not first:  # the first batch pays for loading, and is left out of the throughput
                first, start_time = count, time.monotonic()
    seconds = time.monotonic() - start_time
    text = f"{count:,} states of {metadata['name']} version {version.name} made, "
    text += f"{len(users) - count:,} were kept"
    if count > first:
        text += f"; {(count - first) / seconds:,.0f} users/s"
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    command_line.run(main)
