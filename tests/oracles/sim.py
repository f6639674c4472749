"""SIM's equations in numpy, one candidate and one event at a time."""

import numpy as np


def hard_search(categories, wanted, k):
    """Eq. (1), hard: places of the newest k events of a category, newest first."""
    places = [place for place, category in enumerate(categories) if category == wanted]
    return places[::-1][:k]


def relevance(target, events, target_kernel, event_kernel):
    """Eq. (1), soft: r_i = (W_b e_i) . (W_a e_a), for events [length, dim]."""
    return np.array([(event @ event_kernel) @ (target @ target_kernel) for event in events])


def soft_search(scores, k):
    """Places of the k highest scores, highest first, the newer one first among equals."""
    return sorted(range(len(scores)), key=lambda place: (-scores[place], -place))[:k]


def weighted_sum(scores, events):
    """Eq. (2): U_r = sum of r_i e_i."""
    total = np.zeros(events.shape[-1])
    for score, event in zip(scores, events, strict=True):
        total += score * event
    return total


def exact_search(target, events, query_kernels, key_kernels):
    """Eqs. (3), (4): the concatenated heads, for events z_j [length, dim].

    Kernels are [width, heads, key_dim].
    """
    heads = []
    for head in range(query_kernels.shape[1]):
        asked = target @ query_kernels[:, head]
        scores = np.array([(event @ key_kernels[:, head]) @ asked for event in events])
        weights = np.exp(scores - scores.max()) if len(events) else scores
        heads.append(weights @ events.reshape(-1, events.shape[-1]) / max(weights.sum(), 1e-300))
    return np.concatenate(heads)
