"""ETA, SDIM, TWIN and UBR4CTR as their papers write them, one user and one candidate at a time."""

import numpy as np


def nearest(candidate, events, directions, k):
    """ETA: places of the k smallest Hamming distances, of equal ones the later first."""
    wanted, signed = candidate @ directions > 0, events @ directions > 0
    distance = (signed != wanted).sum(-1)
    return sorted(range(len(events)), key=lambda t: (distance[t], -t))[:k]


def collided(candidate, events, directions, tau, norm):
    """SDIM, Eq. (12): the mean over tables of the normalized sum of what collides."""
    wanted = (candidate @ directions > 0).reshape(-1, tau)
    signed = (events @ directions > 0).reshape(len(events), len(wanted), tau)
    collides = (signed == wanted).all(-1)
    tables = []
    for table in range(len(wanted)):
        chosen = events[collides[:, table]]
        total = chosen.sum(0)
        if norm == "l2" and len(chosen):
            total = total / np.linalg.norm(total)
        if norm == "count" and len(chosen):
            total = total / len(chosen)
        tables.append(total)
    return np.mean(tables, axis=0)


def named_in_turn(scores, k):
    """TWIN: heads [heads, time] name their best in turn until k different ones are named."""
    rankings = [sorted(range(len(row)), key=lambda t, row=row: (-row[t], -t)) for row in scores]
    named = []
    for rank in range(len(scores[0])):
        for ranking in rankings:
            if ranking[rank] not in named and len(named) < k:
                named.append(ranking[rank])
    return named


def bm25(query, documents, k1=1.2, b=0.75):
    """Full BM25 of documents, lists of terms, by a query, a list of terms."""
    average = sum(map(len, documents)) / max(1, len(documents))
    total = np.zeros(len(documents))
    for term in query:
        containing = sum(term in document for document in documents)
        idf = np.log(1 + (len(documents) - containing + 0.5) / (containing + 0.5))
        for place, document in enumerate(documents):
            tf = document.count(term)
            total[place] += idf * tf * (k1 + 1) / (tf + k1 * (1 - b + b * len(document) / average))
    return total
