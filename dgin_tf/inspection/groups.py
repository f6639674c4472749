"""Attention of DGIN over a user's interest groups (Liu et al., 2023, Eq. 7)."""

from collections.abc import Sequence

import numpy as np

from dgin_tf.group_spec import SESSION
from dgin_tf.inspection.plots import plural
from dgin_tf.inspection.traces import Names, Trace
from dgin_tf.schema import CANDIDATE, CANDIDATE_MASK, HISTORY, HISTORY_MASK, PREFIX, Schema

MODULE = "group_module"


def group_attention(trace: Trace) -> np.ndarray:
    """Attention over groups, the mean over heads, [users, candidates, groups]; newest group first.

    Raises:
      ValueError: the model makes no groups.
    """
    if MODULE not in trace.outputs:
        raise ValueError(
            f"expected a model that attends to groups, a dgin; this one has {sorted(trace.outputs)}."
        )
    return trace.outputs[MODULE]["attention"].mean(axis=2)


def group_names(trace: Trace, row: int, key: str, schema: Schema, names: Names) -> list[str]:
    """Names of a row's real groups: the key and the number of events of each.

    Args:
      trace: of a DGIN, of a batch whose histories are whole.
      row: whose groups.
      key: the model's interest key.
      schema: of the data.
      names: raw values of ids.
    """
    groups = trace.state[MODULE]
    ids = groups["keys"][row][groups["mask"][row]]
    if key == SESSION:
        return [f"session {number}" for number in ids]
    events = trace.features[PREFIX[HISTORY] + key][row][trace.features[HISTORY_MASK][row]]
    raw = names.of(schema.field(key).vocabulary, ids)
    word = key.removesuffix("_id")
    return [
        f"{word} {value}, {plural(int(np.sum(events == number)), 'event')}"
        for number, value in zip(ids, raw, strict=True)
    ]


def strongest_groups(
    trace: Trace, row: int, candidate: int, names: Sequence[str], count: int = 5
) -> list[dict[str, str | float]]:
    """The groups of a row that a candidate attends to most.

    Args:
      trace: of a DGIN.
      row, candidate: which attention.
      names: of the row's groups, see `group_names`.
      count: how many groups.

    Returns:
      `group` and `attention`, the strongest first.
    """
    attention = group_attention(trace)[row, candidate, : len(names)]
    order = np.argsort(-attention, kind="stable")[:count]
    return [{"group": names[place], "attention": float(attention[place])} for place in order]


def concentration(trace: Trace, key: str) -> dict[str, float]:
    """Concentration of attention on few groups, averaged over the candidates of users with a history.

    Args:
      trace: of a DGIN.
      key: its interest key.

    Returns:
      `own`, the attention on the candidate's own group, over candidates that have one (NaN for
      sessions); `chance`, the share of that group under equal attention; `strongest`, the attention on
      the strongest group; `groups`, the exponential of its entropy, a number of equally strong groups.
    """
    attention, mask = group_attention(trace), trace.state[MODULE]["mask"]
    real = trace.features[CANDIDATE_MASK] & mask.any(axis=1, keepdims=True)
    figures = {"own": float("nan"), "chance": float("nan")}
    if key != SESSION:
        candidate_keys = trace.features[PREFIX[CANDIDATE] + key][..., np.newaxis]
        group_keys = trace.state[MODULE]["keys"][:, np.newaxis]
        own = (group_keys == candidate_keys) & mask[:, np.newaxis]  # [users, candidates, groups]
        has = own.any(axis=-1) & real
        equal = mask / np.maximum(mask.sum(axis=1, keepdims=True), 1)
        for name, weights in (("own", attention), ("chance", equal[:, np.newaxis])):
            figures[name] = _mean(np.where(own, weights, 0.0).sum(axis=-1)[has])
    entropy = -(attention * np.log(np.maximum(attention, 1e-12))).sum(axis=-1)
    figures["strongest"] = _mean(attention.max(axis=-1)[real])
    return {**figures, "groups": _mean(np.exp(entropy)[real])}


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")
