"""How large the tensors are that live at a time, as an allocator of TensorFlow reports them.

What a process holds in memory is not what a step needs: allocators keep what was freed, in pieces, and
oneDNN's never gives it back. The allocator that reports itself is used only where it is asked for, and
before TensorFlow is imported (`report_allocations`); it is none that anybody trains with.
"""

import os
import pathlib
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

_MADE, _FREED = "MemoryAllocation", "MemoryDeallocation"
_SETTINGS = {"TF_CPU_ALLOCATOR_USE_BFC": "true", "TF_ENABLE_ONEDNN_OPTS": "0"}


def report_allocations() -> None:
    """Has TensorFlow report every tensor that it makes or frees, once it is imported."""
    os.environ.update(_SETTINGS)


def peak_mib(step: Callable[[], Any]) -> float:
    """The most that tensors made within a step hold at a time, in MiB.

    Args:
      step: done once; what lives before it, such as variables and batches, does not count.

    Raises:
      RuntimeError: nothing was reported.
    """
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        step()
        tf.profiler.experimental.stop()
        (path,) = pathlib.Path(folder).rglob("*.xplane.pb")
        changes = sorted(_changes(path))
    if not changes:
        raise RuntimeError("TensorFlow reported no allocation; call report_allocations before.")
    sizes: dict[int, int] = {}
    now = most = 0
    for _, address, size in changes:
        now += size - sizes.pop(address, 0)
        if size:
            sizes[address] = size
        most = max(most, now)
    return most / 2**20


def _changes(path: pathlib.Path) -> Iterator[tuple[int, int, int]]:
    """(time, address, bytes) of every tensor made, and with no bytes of every one freed.

    The bytes are those asked for. What the allocator counts itself is as large as the pieces it gave.
    """
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    space = xplane_pb2.XSpace()
    space.ParseFromString(path.read_bytes())
    for plane in space.planes:
        stats = {number: stat.name for number, stat in plane.stat_metadata.items()}
        for line in plane.lines:
            for event in line.events:
                name = plane.event_metadata[event.metadata_id].name
                if name in (_MADE, _FREED):
                    found = {stats[stat.metadata_id]: stat.int64_value for stat in event.stats}
                    time = 1000 * line.timestamp_ns + event.offset_ps
                    yield time, found["addr"], found["requested_bytes"] if name == _MADE else 0
