"""The wide part of Wide&Deep (Cheng et al., 2016): crosses of past events with the candidate."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from dgin_tf.layers.events import EVENTS, MASK, History, State, Target
from dgin_tf.layers.interest_encoder import InterestEncoder
from dgin_tf.ops import masking
from dgin_tf.ops.hashing import cross_bucket
from dgin_tf.ops.tables import read_rows

_PADDING_BUCKET = 0


class HistoryCross(InterestEncoder):
    """w^T phi(x), Eq. (1): one weight for every pair (id in the history, id of the candidate).

    The pairs of each field are hashed into the buckets of one shared table, whose weights are summed
    over the real events. The table starts at zero, so that the wide part begins without influence;
    its gradients are sparse.

    State: `events`, the raw ids of the fields [users, time], and `mask` bool [users, time].

    Args:
      fields: names of fields that events and candidates both have.
      buckets: rows of the table. The first one stands for padding and stays at zero.

    Raises:
      ValueError: `buckets` is below 2.

    Example:

      >>> ids = tf.constant([[2, 3, 0]])
      >>> history = History(None, ids > 0, {"item_id": ids})
      >>> target = Target(tf.zeros([1, 1, 4]), tf.constant([[True]]), {"item_id": tf.constant([[5]])})
      >>> HistoryCross(["item_id"], buckets=11)(target, history)["interest"].shape
      TensorShape([1, 1, 1])
    """

    reads_ids = True

    def __init__(self, fields: Sequence[str], buckets: int = 2**18, **kwargs: Any):
        super().__init__(**kwargs)
        if buckets < 2:
            raise ValueError(f"HistoryCross needs at least 2 buckets; got {buckets}.")
        self.fields = tuple(fields)
        self.buckets = buckets
        self.table = self.add_float_weight("wide_table", [buckets, 1], "zeros")

    def encode(self, history: History, training: bool = False) -> State:
        """Stores the raw ids."""
        ids = {name: history.features[name] for name in self.fields}
        return {EVENTS: ids, MASK: history.mask}

    def interest(self, state: State, target: Target, training: bool = False) -> State:
        """Sum of the weights of all crosses.

        Returns:
          `interest`, the wide logit, [users, candidates, 1] in float32.
        """
        # [users, candidates, time]
        real = state[MASK][:, tf.newaxis, :] & target.mask[:, :, tf.newaxis]
        logit = tf.zeros(tf.shape(target.mask), self.table.dtype)
        # The salt keeps equal ids of different fields in different buckets of the shared table.
        for salt, name in enumerate(self.fields):
            past, candidate = state[EVENTS][name], target.features[name]
            pair = past[:, tf.newaxis, :], candidate[:, :, tf.newaxis]  # [users, candidates, time]
            # Padding must not even touch a row with a zero gradient: a lazy optimizer would move it.
            bucket = tf.where(real, 1 + cross_bucket(pair, self.buckets - 1, salt), _PADDING_BUCKET)
            weights = read_rows(self.table, bucket)  # [users, candidates, time, 1]
            logit += masking.masked_sum(weights, real)[..., 0]
        return {"interest": logit[..., tf.newaxis]}
