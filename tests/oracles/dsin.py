"""DSIN's equations in numpy, one user, one session and one step at a time."""

import numpy as np

from tests.oracles.dgin import feed_forward, layer_norm, softmax


def sigmoid(values):
    return 1 / (1 + np.exp(-values))


def sessions(timestamps, count, length, gap):
    """Places of the events of the newest sessions, newest session first, oldest event first."""
    found, previous = [], None
    for place, time in enumerate(timestamps):
        if previous is None or time - previous > gap:
            found.append([])
        found[-1].append(place)
        previous = time
    return [places[-length:] for places in found[::-1][:count]]


def session_interest(events, kernels, output, norm, ffn, ffn_norm, scale):
    """Eqs. (4)-(6) of one session [length, dim]; kernels are [heads, units, units] each."""
    query, key, value = kernels
    units = query.shape[-1]
    heads = []
    for head in range(len(query)):
        own = events[:, head * units : (head + 1) * units]
        weights = softmax((own @ query[head]) @ (own @ key[head]).T / np.sqrt(scale))
        heads.append(weights @ (own @ value[head]))
    attended = layer_norm(events + np.concatenate(heads, -1) @ output, *norm)
    return layer_norm(attended + feed_forward(attended, *ffn), *ffn_norm).mean(axis=0)


def lstm(inputs, kernel, recurrent_kernel, bias, peepholes):
    """Eq. (7): the states of a sequence [length, dim]; peepholes [3, units], zeros for none."""
    units = len(recurrent_kernel)
    state, cell, found = np.zeros(units), np.zeros(units), []
    for step in inputs:
        into, forget, candidate, out = np.split(step @ kernel + state @ recurrent_kernel + bias, 4)
        into = sigmoid(into + peepholes[0] * cell)
        forget = sigmoid(forget + peepholes[1] * cell)
        cell = forget * cell + into * np.tanh(candidate)
        state = sigmoid(out + peepholes[2] * cell) * np.tanh(cell)
        found.append(state)
    return np.array(found)


def activated(target, keys, kernel):
    """Eqs. (9), (10): the sum of keys [length, width] under softmax(key W target)."""
    return softmax(keys @ kernel @ target) @ keys
