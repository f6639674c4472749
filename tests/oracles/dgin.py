"""DGIN's groups and equations in numpy, one user, one group and one event at a time."""

import numpy as np


def group_events(keys, mask, groups, events):
    """The most recent groups, newest first: (key, places of all events, places of the newest)."""
    members = {}
    for place in np.flatnonzero(mask):
        members.setdefault(int(keys[place]), []).append(int(place))
    found = sorted(members.items(), key=lambda item: -item[1][-1])[:groups]
    return [(key, places, places[-events:]) for key, places in found]


def session_keys(timestamps, mask, gap):
    """Numbers of sessions of the real events, in their order."""
    number, found, previous = 0, [], None
    for time in timestamps[mask]:
        if previous is not None and time - previous > gap:
            number += 1
        found.append(number)
        previous = time
    return found


def softmax(scores):
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def self_attention(events, query, key, value, output):
    """Eqs. (4), (5) for real events [length, dim]; kernels are [dim, heads, d'].

    The output's kernel is kept transposed, [dim, heads, d'].
    """
    total = np.zeros_like(events)
    for head in range(query.shape[1]):
        asked, offered = events @ query[:, head], events @ key[:, head]
        weights = softmax(asked @ offered.T / np.sqrt(query.shape[-1]))
        total += weights @ (events @ value[:, head]) @ output[:, head].T
    return total


def target_attention(candidate, events, query, key, value, output):
    """MHTA for one candidate [dim] and real events [length, width], zero for none."""
    total = np.zeros(events.shape[-1])
    for head in range(query.shape[1]):
        if not len(events):
            break
        asked = candidate @ query[:, head]
        weights = softmax((events @ key[:, head]) @ asked / np.sqrt(query.shape[-1]))
        total += (weights @ events @ value[:, head]) @ output[:, head].T
    return total


def layer_norm(values, gamma, beta, epsilon=1e-3):
    centerd = values - values.mean(-1, keepdims=True)
    return gamma * centerd / np.sqrt(values.var(-1, keepdims=True) + epsilon) + beta


def feed_forward(values, first, first_bias, second, second_bias):
    return np.maximum(values @ first + first_bias, 0) @ second + second_bias
