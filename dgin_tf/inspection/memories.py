"""Use of the slots of users' memories (MIMN, Pi et al., KDD 2019, figure 6).

Without regularization a few slots get most of the write weight, and the others stay empty. The figure
has one bar for every slot: its share of the write weight of all events.
"""

from collections.abc import Mapping

import numpy as np

from dgin_tf.inspection.traces import Trace

USAGE = "usage"


def slot_use(trace: Trace) -> np.ndarray:
    """Share of each slot in a user's write weights.

    Args:
      trace: of a model whose state has `usage`, the write weights summed over the events.

    Returns:
      [users, slots], each user's most used slot first; rows sum to one. Users without events are left
      out.

    Raises:
      ValueError: the model has no such memory.
    """
    usage = trace.find(USAGE)
    if usage is None:
        raise ValueError(
            "expected a model with a memory, such as mimn; got one whose outputs are "
            f"{', '.join(trace.names)}."
        )
    usage = usage[trace.length > 0]  # [users with events, slots]
    return -np.sort(-usage / usage.sum(axis=1, keepdims=True), axis=1)


def summarize(use: np.ndarray) -> dict[str, float]:
    """Evenness of the use of slots.

    Args:
      use: as of `slot_use`, [users, slots].

    Returns:
      Means over users: `largest`, the share of the most used slot, and `effective_slots`, the
      exponential of the entropy, which is the number of slots where all are used alike.
    """
    # 0 log 0 is 0.
    entropy = -np.sum(use * np.log(np.maximum(use, 1e-12)), axis=1)
    return {"largest": float(use[:, 0].mean()), "effective_slots": float(np.exp(entropy).mean())}


def by_model(traces: Mapping[str, Trace]) -> dict[str, np.ndarray]:
    """Name -> mean use of the slots, [slots], for several models of the same users."""
    return {name: slot_use(trace).mean(axis=0) for name, trace in traces.items()}
