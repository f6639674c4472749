"""Metrics of click probabilities: exact AUC, GAUC, log loss, calibration, each also by history length.

Everything works on flat numpy arrays, one entry a sample. AUC is exact (no thresholds): ties between
a positive and a negative count one half. All of it is sorting and cumulative sums, so millions of
samples take about a second.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import scipy.special
import scipy.stats

HISTORY_BOUNDARIES = (0, 1, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)


@dataclasses.dataclass(frozen=True)
class Predictions:
    """A model's scores of a set of samples with their labels, one entry a sample.

    Attributes:
      logits: scores before the sigmoid, float.
      labels: 0 or 1.
      groups: the user of each sample, any integers; GAUC ranks within a group.
      history_lengths: events in the history that the sample was scored with.
      requests: the request (page view) of each sample, any integers; None where the data has none.
      weights: of the samples, not negative; None where the data has none.
      negative_rates: share of ignored samples that the data kept, above 0 up to 1; None where it has all.
    """

    logits: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    history_lengths: np.ndarray
    requests: np.ndarray | None = None
    weights: np.ndarray | None = None
    negative_rates: np.ndarray | None = None

    def __post_init__(self):
        shapes = {name: array.shape for name, array in self._arrays().items()}
        if len(set(shapes.values())) > 1 or any(len(shape) != 1 for shape in shapes.values()):
            raise ValueError(f"predictions need flat arrays of one length; got {shapes}.")
        wrong = ~np.isin(self.labels, (0, 1))
        if wrong.any():
            raise ValueError(
                f"labels must be 0 or 1; sample {np.argmax(wrong)} has {self.labels[wrong][0]}."
            )

    def select(self, mask: np.ndarray) -> "Predictions":
        """Selects the samples where the boolean `mask`, [samples], is True."""
        return Predictions(**{name: array[mask] for name, array in self._arrays().items()})

    def _arrays(self) -> dict[str, np.ndarray]:
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: array for name, array in values.items() if array is not None}


def auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Probability that a positive outranks a negative, ties counting one half.

    Args:
      labels: 0 or 1, [samples].
      scores: anything that rises with the probability of a 1, [samples].

    Returns:
      The area under the ROC curve; NaN where one of the classes is missing.
    """
    _, values = group_aucs(labels, scores, np.zeros(len(labels), np.int64))
    return float(values[0]) if len(values) else float("nan")


def gauc(labels: np.ndarray, scores: np.ndarray, groups: np.ndarray) -> float:
    """AUC within each group, weighted by the group's samples (DIN, Eq. 10).

    Args:
      labels: 0 or 1, [samples].
      scores: [samples].
      groups: group (user, page view) of each sample, integers, [samples].

    Returns:
      sum_g n_g AUC_g / sum_g n_g over the groups that have both classes; NaN where none has.
    """
    sizes, values = group_aucs(labels, scores, groups)
    return float(np.average(values, weights=sizes)) if len(values) else float("nan")


def group_aucs(
    labels: np.ndarray, scores: np.ndarray, groups: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Exact AUC of every group at once, by one sort over all samples.

    With R the sum of the positives' midranks within their group, the Mann-Whitney statistic gives
    AUC = (R - P (P + 1) / 2) / (P N) for P positives and N negatives.

    Args:
      labels: 0 or 1, [samples].
      scores: [samples].
      groups: integers, [samples].

    Returns:
      Sizes and AUCs of the groups that have both classes, by ascending group; two arrays.

    Raises:
      ValueError: a score is NaN, which has no rank.
    """
    scores = np.asarray(scores)
    if np.isnan(scores).any():
        raise ValueError(
            f"cannot rank NaN; sample {np.argmax(np.isnan(scores))} has it. The model has diverged."
        )
    order = _order_by_group_and_score(np.asarray(groups), scores)
    # From here on samples lie group by group, within a group by rising score.
    labels, scores, groups = (np.asarray(array)[order] for array in (labels, scores, groups))
    # True at the first sample of every group, and of every run of equal scores within one.
    new_group = np.ones(len(order), bool)
    new_group[1:] = groups[1:] != groups[:-1]
    new_tie = new_group.copy()
    new_tie[1:] |= scores[1:] != scores[:-1]

    group_start, tie_start = np.flatnonzero(new_group), np.flatnonzero(new_tie)  # [groups], [ties]
    size = np.diff(np.append(group_start, len(order)))
    tie_size = np.diff(np.append(tie_start, len(order)))
    # Midrank of a run of equal scores, counted from 1 at the start of its group, [ties].
    midrank = tie_start - np.repeat(group_start, size)[tie_start] + (tie_size + 1) / 2.0
    positives_in_tie = _segment_sums(labels.astype(np.int64), tie_start)
    positives = _segment_sums(labels.astype(np.int64), group_start)
    first_tie = np.searchsorted(tie_start, group_start)  # every group starts a run, so it is exact
    rank_sum = _segment_sums(positives_in_tie * midrank, first_tie)
    negatives = size - positives
    has_both = (positives > 0) & (negatives > 0)
    size, positives, negatives, rank_sum = (
        array[has_both].astype(np.float64) for array in (size, positives, negatives, rank_sum)
    )
    return size, (rank_sum - positives * (positives + 1.0) / 2.0) / (positives * negatives)


def request_ranking(
    labels: np.ndarray, scores: np.ndarray, requests: np.ndarray, k: int = 10
) -> tuple[float, float]:
    """NDCG@k and mean reciprocal rank of the first click, over the requests that have both classes.

    DCG@k = sum_i y_i / log2(1 + i) over the k best scores, divided by that of the best order. Of equal
    scores, clicks come last.

    Args:
      labels: 0 or 1, [samples].
      scores: [samples].
      requests: request of each sample, integers, [samples].
      k: ranks that NDCG looks at.

    Returns:
      The two means; NaN where no request has both classes.
    """
    labels = np.asarray(labels, np.int64)
    order = np.lexsort((labels, -np.asarray(scores, np.float64), requests))
    labels, requests = labels[order], np.asarray(requests)[order]
    new = np.ones(len(order), bool)
    new[1:] = requests[1:] != requests[:-1]
    start = np.flatnonzero(new)  # [requests]
    size = np.diff(np.append(start, len(order)))
    rank = np.arange(len(order)) - np.repeat(start, size) + 1  # from 1, [samples]
    clicks = _segment_sums(labels, start)
    gain = np.where(rank <= k, 1.0 / np.log2(1.0 + rank), 0.0)
    dcg = _segment_sums(labels * gain, start)
    best_dcg = _segment_sums((rank <= np.repeat(clicks, size)) * gain, start)
    first = np.maximum.reduceat(labels / rank, start) if len(start) else dcg
    both = (clicks > 0) & (clicks < size)
    if not both.any():
        return float("nan"), float("nan")
    return float(np.mean(dcg[both] / best_dcg[both])), float(np.mean(first[both]))


def log_loss(labels: np.ndarray, logits: np.ndarray) -> float:
    """Mean of -[y log p + (1 - y) log(1 - p)], from logits, so that no probability rounds to 0 or 1.

    Args:
      labels: 0 or 1, [samples].
      logits: [samples].

    Returns:
      The mean in float64; NaN for no samples.
    """
    logits = np.asarray(logits, np.float64)
    if not len(logits):
        return float("nan")
    return float(np.mean(np.logaddexp(0.0, logits) - np.asarray(labels) * logits))


def weighted_auc(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> float:
    """`auc` of samples that count as many times as they weigh.

    Args:
      labels: 0 or 1, [samples].
      scores: [samples].
      weights: not negative, [samples].

    Returns:
      The area; NaN where one of the classes weighs nothing.
    """
    _, tie = np.unique(scores, return_inverse=True)
    positive = np.bincount(tie, weights * (np.asarray(labels) == 1))
    negative = np.bincount(tie, weights * (np.asarray(labels) != 1))
    pairs = positive.sum() * negative.sum()
    # Negatives below, and half of those of the same score.
    outranked = np.cumsum(negative) - negative / 2.0
    return float(np.sum(positive * outranked) / pairs) if pairs else float("nan")


def weighted_log_loss(labels: np.ndarray, logits: np.ndarray, weights: np.ndarray) -> float:
    """`log_loss` as a mean by weight; NaN where nothing weighs anything."""
    logits = np.asarray(logits, np.float64)
    losses = np.logaddexp(0.0, logits) - np.asarray(labels) * logits
    return float(np.average(losses, weights=weights)) if np.sum(weights) else float("nan")


def calibrated_log_loss(
    labels: np.ndarray,
    logits: np.ndarray,
    negative_rates: np.ndarray,
    weights: np.ndarray | None = None,
) -> float:
    """Log loss in the log that ignored samples were dropped from.

    Of a model that was trained on a share w of the negatives, p / (p + (1 - p) / w) is the probability among
    all (He et al., 2014, section 6.3), which is the logit plus log w. Each negative that is there stands for
    1 / w of them.

    Args:
      labels: 0 or 1, [samples].
      logits: of the model, [samples].
      negative_rates: w, above 0 up to 1, [samples].
      weights: of the samples besides, [samples]; all 1 by default.

    Returns:
      The mean over all samples that there were, in float64.
    """
    stands_for = np.where(np.asarray(labels) == 1, 1.0, 1.0 / negative_rates)
    if weights is not None:
        stands_for = stands_for * weights
    return weighted_log_loss(labels, logits + np.log(negative_rates), stands_for)


def calibration(labels: np.ndarray, logits: np.ndarray) -> float:
    """Ratio of predicted to observed clicks, sum p / sum y: 1.1 predicts a tenth too many.

    Args:
      labels: 0 or 1, [samples].
      logits: [samples].

    Returns:
      The ratio; NaN where there is no click.
    """
    clicks = float(np.sum(labels))
    predicted_clicks = float(np.sum(scipy.special.expit(np.asarray(logits, np.float64))))
    return predicted_clicks / clicks if clicks else float("nan")


def expected_calibration_error(labels: np.ndarray, logits: np.ndarray, bins: int = 20) -> float:
    """Mean gap between predicted and observed click rate over bins of equally many samples.

    Args:
      labels: 0 or 1, [samples].
      logits: [samples].
      bins: number of bins, fewer where there are fewer samples.

    Returns:
      sum_b n_b |mean p - mean y| / n; NaN for no samples.
    """
    if not len(logits):
        return float("nan")
    order = np.argsort(logits, kind="stable")
    gap = scipy.special.expit(np.asarray(logits, np.float64)[order]) - np.asarray(labels)[order]
    # With fewer samples than bins every sample is a bin of its own; reduceat wants rising starts.
    starts = np.unique(np.arange(min(bins, len(order))) * len(order) // min(bins, len(order)))
    return float(np.abs(_segment_sums(gap, starts)).sum() / len(order))


def summary(predictions: Predictions) -> dict[str, float | int]:
    """All metrics of a set of samples, as `result.json` holds them for a split.

    Returns:
      `auc`, `gauc`, `log_loss`, `calibration`, `calibration_error` (NaN where undefined) and
      `examples`, the number of samples; of samples with requests also `request_gauc`, `ndcg_10` and `mrr`, with
      weights `weighted_auc` and `weighted_log_loss`, with rates of negatives `calibrated_log_loss` (by weight,
      where there are any).
    """
    labels, logits = predictions.labels, predictions.logits
    weights, rates = predictions.weights, predictions.negative_rates
    optional = {}
    if predictions.requests is not None:
        ndcg, mrr = request_ranking(labels, logits, predictions.requests)
        optional = {"request_gauc": gauc(labels, logits, predictions.requests)}
        optional |= {"ndcg_10": ndcg, "mrr": mrr}
    if weights is not None:
        optional["weighted_auc"] = weighted_auc(labels, logits, weights)
        optional["weighted_log_loss"] = weighted_log_loss(labels, logits, weights)
    if rates is not None:
        optional["calibrated_log_loss"] = calibrated_log_loss(labels, logits, rates, weights)
    return optional | {
        "auc": auc(labels, logits),
        "gauc": gauc(labels, logits, predictions.groups),
        "log_loss": log_loss(labels, logits),
        "calibration": calibration(labels, logits),
        "calibration_error": expected_calibration_error(labels, logits),
        "examples": len(labels),
    }


def by_history_length(
    predictions: Predictions, boundaries: Sequence[int] = HISTORY_BOUNDARIES
) -> dict[str, dict[str, float | int]]:
    """`summary` of the samples in each interval of history length.

    Args:
      predictions: the samples.
      boundaries: rising lower ends of the intervals; the last one is open.

    Returns:
      Interval such as `10-19`, `0` or `1000+` -> summary; intervals without samples are left out.
    """
    interval = np.searchsorted(boundaries, predictions.history_lengths, side="right") - 1
    return {
        _interval_name(boundaries, index): summary(predictions.select(interval == index))
        for index in np.unique(interval)
    }


def paired_test(better: Sequence[float], worse: Sequence[float]) -> Mapping[str, float]:
    """Paired one-sided t-test over seeds that one model is better than another.

    Args:
      better: a metric of the model that is claimed to be better, one value a seed.
      worse: the same metric of the other model, of the same seeds.

    Returns:
      `difference`, the mean gain; `p_value`, the probability of a gain as large without a difference
      between the models. NaN with fewer than two seeds, 0 or 1 where every seed gains or loses the
      same.

    Raises:
      ValueError: the two have different numbers of seeds.
    """
    if len(better) != len(worse):
        raise ValueError(
            f"a paired test needs the same seeds of both models; got {len(better)} and {len(worse)}."
        )
    gains = np.subtract(better, worse)
    if len(gains) < 2:
        difference = float(gains.mean()) if len(gains) else float("nan")
        return {"difference": difference, "p_value": float("nan")}
    if np.ptp(gains) == 0.0:  # the statistic of the test divides by the deviation
        return {"difference": float(gains[0]), "p_value": float(gains[0] <= 0.0)}
    test = scipy.stats.ttest_rel(better, worse, alternative="greater")
    return {"difference": float(gains.mean()), "p_value": float(test.pvalue)}


def _order_by_group_and_score(groups: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Indices that sort by group and, within a group, by score."""
    order = np.argsort(scores, kind="stable")
    if len(groups) and groups.min() == groups.max():  # plain AUC: one sort is half the time
        return order
    return order[np.argsort(groups[order], kind="stable")]


def _segment_sums(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Sums of the runs of `values` that begin at the rising indices `starts`."""
    return np.add.reduceat(values, starts) if len(starts) else values[:0]


def _interval_name(boundaries: Sequence[int], index: int) -> str:
    if index == len(boundaries) - 1:
        return f"{boundaries[index]}+"
    low, high = boundaries[index], boundaries[index + 1] - 1
    return str(low) if low == high else f"{low}-{high}"
