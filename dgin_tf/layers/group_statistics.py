"""Statistics of groups of events, cut into buckets and embedded (DGIN, Eq. 3)."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from dgin_tf.group_spec import MEAN, StatisticsSpec
from dgin_tf.layers.configured import ConfiguredLayer
from dgin_tf.layers.events import State
from dgin_tf.ops.grouping import Groups
from dgin_tf.ops.tables import read_few

_HIGHEST = 10_000  # the longest history of the paper
_HIGHEST_MEAN = 1 << 30  # as means are stored, about a million
_NEVER = np.iinfo(np.int32).max  # a boundary that no statistic reaches


def logarithmic_boundaries(highest: int = _HIGHEST) -> list[int]:
    """Two buckets for every doubling: 1, 2, 3, 4, 6, 8, 12, 16, ... up to `highest`.

    Below the first boundary is zero. Small counts, which most are, have buckets of their own.
    """
    powers = 2 ** np.arange(0, np.log2(highest) + 1)
    boundaries = np.unique(np.concatenate([powers, 3 * powers // 2])).astype(int)
    return [int(boundary) for boundary in boundaries if 1 <= boundary <= highest]


def quantile_boundaries(values: np.ndarray, num_bins: int = 16) -> list[int]:
    """Boundaries of buckets that are about equally frequent in a sample of a training split.

    Args:
      values: counts of any shape.
      num_bins: buckets at most; values that are frequent in themselves make fewer.

    Raises:
      ValueError: there are no values, or fewer than two buckets.
    """
    if not np.size(values) or num_bins < 2:
        raise ValueError(
            f"boundaries need values and at least 2 buckets; got {np.size(values)} values and "
            f"{num_bins}."
        )
    inner = np.quantile(values, np.arange(1, num_bins) / num_bins, method="higher")
    boundaries = np.unique(inner.astype(int))
    return [int(boundary) for boundary in boundaries if boundary > np.min(values)]


def statistic_boundaries(name: str, values: np.ndarray, num_bins: int) -> list[int]:
    """Quantiles of a statistic; of a mean those of what is known, above a bucket for what is not."""
    is_known = values > 0
    if not name.startswith(MEAN) or not np.any(is_known):
        return quantile_boundaries(values, num_bins)
    if num_bins == 2:
        return [1]
    return [1, *quantile_boundaries(values[is_known], num_bins - 1)]


def _full_row(boundaries: Sequence[int], num_bins: int) -> list[int]:
    """Boundaries of `num_bins` buckets, those that are left over never reached."""
    row = list(boundaries)[: num_bins - 1]
    return row + [int(_NEVER)] * (num_bins - 1 - len(row))


class GroupStatistics(ConfiguredLayer):
    """Embeds how many events a group has, of how many types, of each type, of how many items, and means.

    Means are of the numeric features that the records hold, such as dwell time and what was paid, over
    those events of which they are known. What the records do not hold is left out and never taken for
    zero; a group without a known value has a bucket of its own.

    Bucket boundaries are integers, as in `tf.keras.layers.Discretization`: a value equal to a boundary
    is in the bucket above it. By default they rise by the square root of two; with `num_bins` they are
    learned by `adapt` and are weights, saved with the model, logarithmic until then.

    Args:
      statistics: which ones; None for the count alone.
      dim: width of one statistic's embedding.
      bin_boundaries: statistic -> rising boundaries, in place of the logarithmic ones.
      num_bins: buckets of every statistic, at most, whose boundaries are to be learned.

    Raises:
      ValueError: boundaries are of an unknown statistic or do not rise, there are both boundaries and
        `num_bins`, or `num_bins` is below 2.

    Example:

      >>> layer = GroupStatistics(dim=4)
      >>> layer({"count": tf.constant([[3, 1]])}, tf.constant([[True, True]])).shape
      TensorShape([1, 2, 4])
    """

    def __init__(
        self,
        statistics: StatisticsSpec | None = None,
        dim: int = 18,
        bin_boundaries: Mapping[str, Sequence[int]] | None = None,
        num_bins: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if isinstance(statistics, Mapping):
            statistics = StatisticsSpec(**statistics)
        self.statistics = statistics or StatisticsSpec()
        self.dim = dim
        self.bin_boundaries = {n: list(values) for n, values in (bin_boundaries or {}).items()}
        self.num_bins = num_bins
        self.learned_boundaries: Any = None
        if self.bin_boundaries and num_bins is not None:
            raise ValueError(
                "expected bin_boundaries, or num_bins for boundaries to learn; got both."
            )
        if num_bins is not None and num_bins < 2:
            raise ValueError(f"num_bins must be at least 2, or None; got {num_bins}.")
        if unknown := sorted(set(self.bin_boundaries) - set(self.names)):
            raise ValueError(f"boundaries are of statistics among {self.names}; got {unknown}.")
        for name, values in self.bin_boundaries.items():
            if any(after <= before for before, after in zip(values, values[1:], strict=False)):
                raise ValueError(f"boundaries of {name!r} must rise; got {values}.")

    @property
    def names(self) -> list[str]:
        """Names of the statistics, in the order of their embeddings."""
        return list(self.statistics.names)

    def build(self, input_shape: Any) -> None:
        boundaries = [
            self.bin_boundaries.get(name)
            or logarithmic_boundaries(_HIGHEST_MEAN if name.startswith(MEAN) else _HIGHEST)
            for name in self.names
        ]
        if self.num_bins is not None:
            # Rows of one length, so that learning changes no shape.
            boundaries = [_full_row(values, self.num_bins) for values in boundaries]
            first = np.array(boundaries)
            initializer = tf.keras.initializers.Constant(first)
            self.learned_boundaries = self.add_weight(
                "boundaries", first.shape, tf.int64, initializer=initializer, trainable=False
            )
        self._boundaries = boundaries
        sizes = [len(values) + 1 for values in boundaries]
        self._offsets = [0, *np.cumsum(sizes)[:-1].tolist()]
        self.table = self.add_weight("table", [sum(sizes), self.dim], initializer="glorot_uniform")
        super().build(input_shape)

    def adapt(self, data: Iterable[Groups]) -> None:
        """Learns boundaries of buckets that are about equally frequent among the groups of a sample.

        Args:
          data: groups of training histories.

        Raises:
          ValueError: the boundaries are not to be learned, or there is no group.
        """
        if self.num_bins is None:
            raise ValueError("these boundaries are fixed; give num_bins to learn some.")
        sample: dict[str, list[np.ndarray]] = {name: [] for name in self.names}
        for groups in data:
            is_group = groups.mask.numpy()
            for name, values in sample.items():
                values.append(groups.statistics[name].numpy()[is_group])
        if not sum(map(np.size, sample[self.names[0]])):
            raise ValueError("expected groups to learn boundaries from; the data hold none.")
        if not self.built:
            self.build(None)
        boundaries = {
            name: statistic_boundaries(name, np.concatenate(values), self.num_bins)
            for name, values in sample.items()
        }
        self.learned_boundaries.assign([_full_row(b, self.num_bins) for b in boundaries.values()])

    def call(self, statistics: State, mask: tf.Tensor) -> tf.Tensor:
        """Embeds statistics.

        Args:
          statistics: by name, integers [users, groups].
          mask: True where there is a group, bool [users, groups].

        Returns:
          [users, groups, width]; zero where there is no group.
        """
        rows = []
        for n, (name, offset) in enumerate(zip(self.names, self._offsets, strict=True)):
            value = statistics[name]
            boundaries = tf.constant(self._boundaries[n], value.dtype)
            if self.learned_boundaries is not None:
                boundaries = tf.cast(self.learned_boundaries[n], value.dtype)
            bucket = tf.searchsorted(boundaries, tf.reshape(value, [-1]), side="right")
            rows.append(offset + tf.reshape(bucket, tf.shape(value)))
        table = tf.convert_to_tensor(self.table)
        # A row of zeros behind the table: ids are cheaper to mask than embeddings.
        rows = tf.where(mask[..., tf.newaxis], tf.stack(rows, axis=-1), table.shape[0])
        embeddings = read_few(tf.pad(table, [[0, 1], [0, 0]]), rows)
        shape = [*tf.unstack(tf.shape(embeddings)[:-2]), len(self.names) * self.dim]
        return tf.reshape(embeddings, shape)  # statistics side by side
