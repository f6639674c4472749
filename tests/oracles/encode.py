"""ENCODE's equations in numpy, one user, one event and one cluster at a time."""

import numpy as np


def cosine(x, y):
    """1 - Eq. (11); 0 where either is zero."""
    length = np.linalg.norm(x) * np.linalg.norm(y)
    return float(x @ y / length) if length > 0 else 0.0


def similarity(x, y, metric="cosine", beta=20.0):
    """Eq. (9) with its beta turned round or as printed, or the scaled inner product of ENCODE-."""
    if metric == "dot":
        return float(x @ y) / np.sqrt(len(x))
    return cosine(x, y) / beta if metric == "printed" else cosine(x, y) * beta


def softmax(scores):
    raised = np.exp(np.asarray(scores) - np.max(scores))
    return raised / raised.sum()


def direction(members):
    """A cluster's center: the sum of unit vectors, of length one."""
    total = np.sum([m / max(np.linalg.norm(m), 1e-12) for m in members], axis=0)
    return total / max(np.linalg.norm(total), 1e-12)


def k_means(vectors, centers, rounds):
    """Assignments by spherical K-means from given centers, the first of equal ones winning."""
    centers = [c / np.linalg.norm(c) for c in centers]
    for _ in range(rounds):
        assigned = [int(np.argmax([cosine(v, c) for c in centers])) for v in vectors]
        for number in range(len(centers)):
            members = [v for v, a in zip(vectors, assigned, strict=True) if a == number]
            if members:
                centers[number] = direction(members)
    return assigned


def agglomerative(vectors, clusters):
    """Merges the pair of the largest mean cosine until so many clusters are left."""
    groups = [[place] for place in range(len(vectors))]
    while len(groups) > clusters:
        best, pair = -np.inf, None
        for left in range(len(groups)):
            for right in range(left + 1, len(groups)):
                pairs = [
                    cosine(vectors[a], vectors[b]) for a in groups[left] for b in groups[right]
                ]
                if np.mean(pairs) > best:
                    best, pair = np.mean(pairs), (left, right)
        groups[pair[0]] += groups.pop(pair[1])
    return {frozenset(group) for group in groups}


def interests(events, reduced, assigned, **relevance):
    """Eq. (8): cluster -> u_i, and the weights of the events within their clusters."""
    found, weights = {}, np.zeros(len(events))
    for number in sorted(set(assigned)):
        places = [p for p, a in enumerate(assigned) if a == number]
        center = direction([reduced[p] for p in places])
        weights[places] = softmax([similarity(reduced[p], center, **relevance) for p in places])
        found[number] = sum(weights[p] * events[p] for p in places)
    return found, weights


def read(found, target, **relevance):
    """Eq. (10): I, and the weights of the clusters in their order."""
    numbers = sorted(found)
    weights = softmax([similarity(found[n], target, **relevance) for n in numbers])
    return sum(w * found[n] for w, n in zip(weights, numbers, strict=True)), weights


def dynamic_triplet(original, reduced, anchor, others):
    """Eqs. (5)-(7) of one anchor and two other events."""
    distance = [1 - cosine(original[anchor], original[o]) for o in others]
    positive, negative = (others[i] for i in np.argsort(distance, kind="stable"))
    margin = max(distance) - min(distance)
    near = 1 - cosine(reduced[anchor], reduced[positive])
    far = 1 - cosine(reduced[anchor], reduced[negative])
    return max(0.0, near - far + margin)


def n_pair(original, reduced, anchor, others):
    """Eq. (12) of one anchor: softmax cross-entropy whose right class is the nearest original."""
    distance = [1 - cosine(original[anchor], original[o]) for o in others]
    products = np.array([reduced[anchor] @ reduced[o] for o in others])
    return -np.log(softmax(products)[int(np.argmin(distance))])
