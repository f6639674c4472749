"""Peak size of the live tensors of a step, as an allocator of TensorFlow reports them.

The memory of a process is more than a step needs: allocators keep freed pieces, and oneDNN's never
returns them. The allocator that reports allocations has to be selected before TensorFlow is imported
(`report_allocations`), and is not the one of trainings.
"""

import os
import pathlib
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

_ALLOCATION, _RELEASE = "MemoryAllocation", "MemoryDeallocation"
_SETTINGS = {"TF_CPU_ALLOCATOR_USE_BFC": "true", "TF_ENABLE_ONEDNN_OPTS": "0"}


def report_allocations() -> None:
    """Selects the allocator that reports every allocation, before TensorFlow is imported."""
    os.environ.update(_SETTINGS)


def peak_mib(step: Callable[[], Any]) -> float:
    """Peak size of the tensors that a step creates, in MiB.

    Args:
      step: called once; tensors from before it, such as variables and batches, do not count.

    Raises:
      RuntimeError: the allocator reported nothing.
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
    sizes: dict[int, int] = {}  # address -> bytes of the live tensors
    total = peak = 0
    for _, address, size in changes:
        total += size - sizes.pop(address, 0)  # 0: a tensor from before the step
        if size:
            sizes[address] = size
        peak = max(peak, total)
    return peak / 2**20


def _changes(path: pathlib.Path) -> Iterator[tuple[int, int, int]]:
    """(time, address, bytes) of every allocation; zero bytes for every release.

    The bytes are the requested ones: the allocator's own counts are rounded up to its pieces.
    """
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    space = xplane_pb2.XSpace()
    space.ParseFromString(path.read_bytes())
    for plane in space.planes:
        stats = {number: stat.name for number, stat in plane.stat_metadata.items()}
        for line in plane.lines:
            for event in line.events:
                name = plane.event_metadata[event.metadata_id].name
                if name in (_ALLOCATION, _RELEASE):
                    values = {stats[stat.metadata_id]: stat.int64_value for stat in event.stats}
                    time = 1000 * line.timestamp_ns + event.offset_ps  # picoseconds
                    size = values["requested_bytes"] if name == _ALLOCATION else 0
                    yield time, values["addr"], size
