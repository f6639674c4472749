"""Which of a person's interest groups DGIN attends to (Liu et al., 2023, Eq. 7)."""

from collections.abc import Sequence

import numpy as np

from dgin_tf.inspection.traces import Names, Trace
from dgin_tf.schema import Schema

_PREFIX = "group_module_"
_ATTENTION, _KEYS, _MASK = (_PREFIX + name for name in ("attention", "keys", "mask"))
_SESSION = "session"


def group_attention(trace: Trace) -> np.ndarray:
    """Attention over groups, the mean over heads, [users, candidates, groups]; newest group first.

    Raises:
      ValueError: the model makes no groups.
    """
    if _ATTENTION not in trace.outputs:
        raise ValueError(
            f"expected a model that attends to groups, a dgin; this one has {sorted(trace.outputs)}."
        )
    return trace.outputs[_ATTENTION].mean(axis=2)


def group_names(trace: Trace, row: int, key: str, schema: Schema, names: Names) -> list[str]:
    """What each real group of a row is: its key and how many events it has.

    Args:
      trace: of a DGIN, of a whole batch (not a condensed one).
      row: whose groups.
      key: the model's interest key.
      schema: of the data.
      names: raw values of ids.
    """
    ids = trace.outputs[_KEYS][row][trace.outputs[_MASK][row]]
    if key == _SESSION:
        return [f"session {number}" for number in ids]
    events = trace.features[f"hist_{key}"][row][trace.features["hist_mask"][row]]
    raw = names.of(schema.field(key).vocabulary, ids)
    word = key.removesuffix("_id")
    return [
        f"{word} {value}, {np.sum(events == number)} events"
        for number, value in zip(ids, raw, strict=True)
    ]


def strongest_groups(
    trace: Trace, row: int, candidate: int, named: Sequence[str], count: int = 5
) -> list[dict[str, str | float]]:
    """The groups of a row that a candidate attends to most.

    Args:
      trace: of a DGIN.
      row, candidate: which attention.
      named: what the row's groups are, see `group_names`.
      count: how many groups.

    Returns:
      `group` and `attention`, the strongest first.
    """
    attention = group_attention(trace)[row, candidate, : len(named)]
    order = np.argsort(-attention, kind="stable")[:count]
    return [{"group": named[place], "attention": float(attention[place])} for place in order]


def concentration(trace: Trace, key: str) -> dict[str, float]:
    """How attention to groups is spread, averaged over the candidates of people with a history.

    Args:
      trace: of a DGIN.
      key: its interest key.

    Returns:
      `own`, the attention on the candidate's own group, over candidates that have one (NaN for
      sessions); `chance`, what equal attention would put there; `strongest`, on the strongest group;
      `groups`, as how many equally strong ones it counts (the exponential of its entropy).
    """
    attention, mask = group_attention(trace), trace.outputs[_MASK]
    real = trace.features["cand_mask"] & mask.any(axis=1, keepdims=True)
    found = {"own": float("nan"), "chance": float("nan")}
    if key != _SESSION:
        wanted = trace.features[f"cand_{key}"][..., np.newaxis]
        own = (trace.outputs[_KEYS][:, np.newaxis] == wanted) & mask[:, np.newaxis]
        has = own.any(axis=-1) & real
        equal = mask / np.maximum(mask.sum(axis=1, keepdims=True), 1)
        for name, weights in (("own", attention), ("chance", equal[:, np.newaxis])):
            found[name] = _mean(np.where(own, weights, 0.0).sum(axis=-1)[has])
    entropy = -(attention * np.log(np.maximum(attention, 1e-12))).sum(axis=-1)
    found["strongest"] = _mean(attention.max(axis=-1)[real])
    return {**found, "groups": _mean(np.exp(entropy)[real])}


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")
