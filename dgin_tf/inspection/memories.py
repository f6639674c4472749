"""Use of the slots of users' memories (MIMN, Pi et al., KDD 2019, figure 6).

Without regularization a few slots get most of the write weight, and the others stay empty. The figure
has one bar for every slot: its share of the write weight of all events.

Slots that are used alike may each be written by events of their own, or all by every event, which is
one memory and not several. The entropy of single writes tells the two apart.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from dgin_tf.inspection.traces import Trace
from dgin_tf.layers.interest_encoder import INTEREST
from dgin_tf.models.base import CTRModel
from dgin_tf.ops.event_order import padding_first
from dgin_tf.ops.ntm import READ_WEIGHTS, USAGE, WRITE_WEIGHTS


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
    return _shares(usage[trace.length > 0])


def _shares(usage: np.ndarray) -> np.ndarray:
    return -np.sort(-usage / usage.sum(axis=1, keepdims=True), axis=1)


def summarize(use: np.ndarray) -> dict[str, float]:
    """Evenness of the use of slots.

    Args:
      use: as of `slot_use`, [users, slots].

    Returns:
      Means over users: `largest`, the share of the most used slot, and `effective_slots`, the
      exponential of the entropy, which is the number of slots where all are used alike.
    """
    effective_slots = np.exp(_entropy(use)).mean()
    return {"largest": float(use[:, 0].mean()), "effective_slots": float(effective_slots)}


def is_addressed(model: CTRModel) -> bool:
    """Returns True where a model has a memory whose slots its events address, see `addressing`."""
    memory = getattr(model.encoders.get(INTEREST), "memory", None)
    return WRITE_WEIGHTS in getattr(memory, "trace_shapes", {})


def addressing(model: CTRModel, features: Mapping[str, tf.Tensor]) -> dict[str, float]:
    """Concentration of the weights with which events write and read the slots.

    Args:
      model: see `is_addressed`.
      features: a batch.

    Returns:
      `write_entropy`, the mean entropy of an event's write weights over that of equal ones: 1 where
      all slots are written alike, 0 where one is. `largest_read`, the mean of an event's largest read
      weight. `effective_slots`, see `summarize`.
    """
    state, weights, mask = _addresses(model, features)
    reads, writes = (
        tf.boolean_mask(weights[n], mask).numpy() for n in (READ_WEIGHTS, WRITE_WEIGHTS)
    )
    usage = tf.boolean_mask(state[USAGE], tf.reduce_any(mask, 1)).numpy()
    return {
        "write_entropy": float(_entropy(writes).mean() / np.log(writes.shape[-1])),
        "largest_read": float(reads.max(-1).mean()),
        "effective_slots": summarize(_shares(usage))["effective_slots"],
    }


def event_writing(model: CTRModel, features: Mapping[str, tf.Tensor]) -> np.ndarray:
    """Weights with which every event writes the slots, [users, time, slots].

    Args:
      model: see `is_addressed`.
      features: a batch without padding in its histories, see `traces.with_candidates`.
    """
    return _addresses(model, features)[1][WRITE_WEIGHTS].numpy()


def topics_of_slots(writing: np.ndarray, topics: Sequence[str]) -> list[str]:
    """The topic of every slot whose events write it most, compared with how they write all slots.

    Args:
      writing: write weights of one user's events, [time, slots].
      topics: of the events, such as their categories, [time].
    """
    names, inverse = np.unique(np.asarray(topics), return_inverse=True)
    weights = np.zeros((len(names), writing.shape[1]))  # [topics, slots]
    np.add.at(weights, inverse, writing)
    expected = np.outer(weights.sum(axis=1), weights.sum(axis=0)) / weights.sum()
    return [str(names[row]) for row in (weights - expected).argmax(axis=0)]


def _addresses(model, features):
    """State after the events, weights of the addresses by name, and mask; padding comes first."""
    encoder: Any = model.encoders[INTEREST]
    history = encoder.prepare(model.past_events(features))
    # The released cell reads padding, and reads it first; the paper's passes it by.
    events, mask = padding_first(history.events, history.mask)
    state, weights = encoder.memory(events, mask, traces=(READ_WEIGHTS, WRITE_WEIGHTS))
    return state, weights, mask


def _entropy(weights: np.ndarray) -> np.ndarray:
    return -np.sum(weights * np.log(np.maximum(weights, 1e-12)), axis=-1)  # 0 log 0 is 0


def by_model(traces: Mapping[str, Trace]) -> dict[str, np.ndarray]:
    """Name -> mean use of the slots, [slots], for several models of the same users."""
    return {name: slot_use(trace).mean(axis=0) for name, trace in traces.items()}
