"""Small sets of events, in arrays as wide as the largest of them.

Most people do most things once or twice, so that most of such an array is padding. Work on sets that
grows with their square is therefore done on sets of about one size at a time.
"""

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf


class SetsOfSize(NamedTuple):
    """Some of many sets.

    Attributes:
      chosen: which ones, int64 [sets, axes], places in the axes before the members'.
      size: how many members they have at most; None for as many as the arrays are wide.
    """

    chosen: tf.Tensor
    size: int | None

    def members(self, values: tf.Tensor) -> tf.Tensor:
        """Of values [..., width, ...] those of the sets, [sets, size, ...]."""
        part = (slice(None),) * self.chosen.shape[-1] + (slice(self.size),)
        return tf.gather_nd(values[part], self.chosen)

    def of_sets(self, values: tf.Tensor) -> tf.Tensor:
        """Of one value a set, [..., dim], those of the sets, [sets, dim]."""
        return tf.gather_nd(values, self.chosen)


def put_back(sets: Sequence[SetsOfSize], found: Sequence[tf.Tensor], like: tf.Tensor) -> tf.Tensor:
    """Rows of sets of every size, each [sets, ...], where they are in a mask like that which was split.

    Returns:
      `like`'s shape but its last axis + [...]; zero where there is no set.
    """
    chosen = tf.concat([part.chosen for part in sets], axis=0)

    # The gradient of a concatenation cuts, and what XLA cuts out of an array of unknown size is wrong.
    @tf.custom_gradient
    def scatter(*found):
        def gradient(upstream):
            return [tf.gather_nd(upstream, part.chosen) for part in sets]

        rows = tf.concat(found, axis=0)
        outer, inner = tf.shape(like, tf.int64)[:-1], tf.shape(rows, tf.int64)[1:]
        return tf.scatter_nd(chosen, rows, tf.concat([outer, inner], axis=0)), gradient

    return scatter(*found)


def split_by_size(mask: tf.Tensor, sizes: Sequence[int]) -> list[SetsOfSize]:
    """The sets that have members, by how many they have.

    Args:
      mask: True where there is a member, bool [..., width]; members come first.
      sizes: upper limits of all classes but the last, rising; those that are not below the width are
        left out where it is known.
    """
    width = mask.shape[-1]
    limits = [size for size in sizes if width is None or size < width]
    count = tf.math.count_nonzero(mask, axis=-1, dtype=tf.int32)
    possible = tf.range(tf.shape(mask)[-1] + 1)
    found = []
    for low, high in zip([0, *limits], [*limits, None], strict=True):
        is_of_size = possible > low if high is None else (possible > low) & (possible <= high)
        # Looked up and not compared: XLA concludes from a comparison how many places `where` can have
        # at most, for one with an upper limit too few, and then writes beyond them.
        found.append(SetsOfSize(tf.where(tf.gather(is_of_size, count)), high))
    return found
