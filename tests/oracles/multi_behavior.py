"""TEM4CTR, NINN and DMBIN in numpy, one user and one event at a time."""

import numpy as np

from tests.oracles.dgin import softmax


def nearest(place, others, count):
    """Places of the `count` other events before a place and of those after it, oldest first."""
    places = np.flatnonzero(others)
    before, after = places[places < place], places[places > place]
    return [*before[len(before) - min(count, len(before)) :], *after[:count]]


def project(vector, onto):
    return (vector @ onto) / (onto @ onto) * onto


def unit(query, key, layers):
    """DIN's activation unit with ReLU on one pair; layers are (kernel, bias) pairs."""
    hidden = np.concatenate([query, key, query - key, query * key])
    for kernel, bias in layers[:-1]:
        hidden = np.maximum(hidden @ kernel + bias, 0)
    kernel, bias = layers[-1]
    return (hidden @ kernel + bias)[0]


def attended(query, keys, layers):
    """Softmax attention by a unit over real keys [length, dim]; zero for none."""
    if not len(keys):
        return np.zeros_like(query)
    return softmax(np.array([unit(query, key, layers) for key in keys])) @ keys


def parts(keys, values, mask, count):
    """The newest place of every key, by the value they share: the largest parts, and the rest."""
    newest = {}
    for place in np.flatnonzero(mask):
        newest[int(keys[place])] = int(place)
    members = {}
    for place in sorted(newest.values()):
        members.setdefault(int(values[place]), []).append(place)
    largest = sorted(members, key=lambda value: (-len(members[value]), value))
    kept = {value: members[value] for value in sorted(largest[:count])}
    return kept, [place for value in largest[count:] for place in members[value]]


def contrast(common, specific, present, temperature):
    """The contrastive loss of every user; vectors [users, types, dim]."""
    users, types = present.shape
    found = np.zeros(users)
    for user in range(users):
        pairs = []
        for a in range(types):
            for b in range(types):
                if a == b or not (present[user, a] and present[user, b]):
                    continue
                own = common[user, a]
                positive = np.exp(own @ common[user, b] / temperature)
                others = [v for v in range(users) if v != user and present[v, b]]
                negatives = [common[v, b] for v in others]
                negatives += [specific[user, c] for c in range(types) if present[user, c]]
                total = sum(np.exp(own @ vector / temperature) for vector in negatives)
                pairs.append(-np.log(positive / (positive + total)))
        found[user] = np.mean(pairs) if pairs else 0.0
    return found
