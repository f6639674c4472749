"""TWIN: one attention that searches all events and reads the best of them (Chang et al., 2023).

"TWIN: TWo-stage Interest Network for Lifelong User Behavior Modeling in CTR Prediction at Kuaishou",
section 4. Search (CP-GSU) and reading (ESU) score an event alike, with the same parameters, Eq. (6):

    alpha = (K_h W_h)(W_q q) / sqrt(d_k) + (K_c W_c) beta.

K_h are features that an event has for everybody, its item and category here. The paper projects them
before the candidate is known; here W_h is moved to the candidate, K_h (W_h W_q q), which costs as much
a candidate and spares every event its projection. K_c are features of the user's own encounter with
it, here the time gap and the behavior type: each is embedded and projected on one number, a bias on
the event's score.
"""

from typing import Any

import tensorflow as tf

from dgin_tf.layers.configured import KernelLayer, as_layer
from dgin_tf.layers.events import (
    EVENTS,
    MASK,
    History,
    State,
    Target,
    append_in_time,
    embed_ids,
    embed_without_gradient,
    gather_features,
    store_events,
)
from dgin_tf.layers.interest_encoder import INTEREST, InterestEncoder
from dgin_tf.layers.multi_head_attention import MultiHeadAttention
from dgin_tf.layers.search.ranking import take_turns
from dgin_tf.layers.search.unit import TOPK_INDICES, TOPK_MASK
from dgin_tf.layers.time_gap import BUCKETS, gap_buckets
from dgin_tf.ops import masking
from dgin_tf.schema import BEHAVIOR_TYPE, CANDIDATE, TIMESTAMP, check_features

KEYS = "keys"


class CrossFeature(KernelLayer):
    """One of K_c: its embedding, and its part of the bias, (K_c,j w_j) beta_j.

    Example:

      >>> buckets = tf.zeros([2, 3, 100], tf.int32)
      >>> CrossFeature(buckets=16, heads=4)(buckets).shape
      TensorShape([2, 3, 4, 100])

    Args:
      buckets: how many values it has.
      heads: of the attention that it biases.
      dim: width of its embedding, 8 in the paper.
      kernel_initializer, kernel_regularizer: of the embedding, w and beta.
    """

    def __init__(self, buckets: int, heads: int, dim: int = 8, **kwargs: Any):
        super().__init__(**kwargs)
        self.buckets = buckets
        self.heads = heads
        self.dim = dim

    def build(self, input_shape: Any) -> None:
        self.table = self.add_kernel("table", [self.buckets, self.dim])
        self.weight = self.add_kernel("weight", [self.dim, 1])
        self.head_weights = self.add_kernel("head_weights", [1, self.heads])
        super().build(input_shape)

    def call(self, bucket: tf.Tensor) -> tf.Tensor:
        """Eq. (6)'s second term.

        Args:
          bucket: the value that each event has for each candidate, int32 [users, candidates, time].

        Returns:
          [users, candidates, heads, time].
        """
        number = tf.matmul(tf.convert_to_tensor(self.table), tf.convert_to_tensor(self.weight))
        number = tf.gather(number[:, 0], bucket)[:, :, tf.newaxis]
        return number * tf.reshape(tf.convert_to_tensor(self.head_weights), [self.heads, 1])

    def embed(self, bucket: tf.Tensor) -> tf.Tensor:
        """[...] -> [..., dim], once the layer has been called."""
        return tf.gather(tf.convert_to_tensor(self.table), bucket)


class ConsistentInterest(InterestEncoder, KernelLayer):
    """Searches and reads with one multi-head attention.

    The heads name events in turn until k different ones are named; then every head attends to all of
    them.

    State: `events`, their ids, `mask`, and `keys`, their K_h [users, time, dim].

    No gradient passes through the search; the attention's weights learn from the retrieved events.

    Example:

      >>> target, events = tf.random.normal([2, 3, 8]), tf.random.normal([2, 100, 8])
      >>> outputs = ConsistentInterest(k=5)(target, (events, tf.fill([2, 100], True)))
      >>> outputs["interest"].shape, outputs["topk_indices"].shape
      (TensorShape([2, 3, 8]), TensorShape([2, 3, 5]))

    Args:
      attention: of both stages, projected; None for the paper's four heads.
      k: how many events to retrieve at most.
      times: whether time gaps are a cross feature.
      behavior_types: ids of behavior types, 0 for none; more make them a cross feature.
      kernel_initializer, kernel_regularizer: of the cross features; the attention has its own.
    """

    reads_ids = True

    def __init__(
        self,
        attention: MultiHeadAttention | None = None,
        k: int = 100,
        times: bool = False,
        behavior_types: int = 0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        policy = self.dtype_policy
        self.attention = as_layer(attention) or MultiHeadAttention(
            4, name="attention", dtype=policy
        )
        self.k = k
        self.times = times
        self.behavior_types = behavior_types
        self.event_features = (BEHAVIOR_TYPE,) if behavior_types else ()
        heads = self.attention.heads
        self.cross_features = {}
        if times:
            self.cross_features["gap"] = CrossFeature(
                BUCKETS, heads, name="gap", dtype=policy, **self.kernel_config
            )
        if behavior_types:
            self.cross_features["behavior_type"] = CrossFeature(
                behavior_types,
                heads,
                name="behavior_type",
                dtype=policy,
                **self.kernel_config,
            )

    def encode(self, history: History, training: bool = False) -> State:
        """Stores the events' ids and embeds their K_h."""
        times = (TIMESTAMP,) if self.times else ()
        keys = embed_without_gradient(history, self.compute_dtype)
        return {**store_events(history, (*times, *self.event_features)), KEYS: keys}

    def interest(self, state: State, target: Target, training: bool = False) -> State:
        """Retrieves events for each candidate and reads them.

        Returns:
          `interest` [users, candidates, dim of an event with its cross features], `attention`
          [users, candidates, heads, k], `topk_indices` int32 and `topk_mask` bool
          [users, candidates, k].

        Raises:
          ValueError: the candidates come without `Target.tables`.
        """
        mask = state[MASK][:, tf.newaxis, tf.newaxis]
        result = take_turns(self.search_scores(state, target), mask, self.k)
        features = gather_features(state[EVENTS], result.topk_indices)
        events = embed_ids(target.tables, features, self.compute_dtype, result.mask)
        buckets = self.cross_buckets(features, target)
        scores = self._scores(target, events, buckets)
        weights = masking.masked_softmax(scores, result.mask[:, :, tf.newaxis])
        crosses = [self.cross_features[name].embed(bucket) for name, bucket in buckets.items()]
        values = tf.concat([events, *(tf.cast(x, events.dtype) for x in crosses)], axis=-1)
        return {
            INTEREST: self.attention.read(weights, values),
            "attention": weights,
            TOPK_INDICES: result.topk_indices,
            TOPK_MASK: result.mask,
        }

    def update(self, state: State, history: History) -> State:
        """Appends newer events; equal to one `encode` of them all."""
        return append_in_time(state, self.encode(history))

    def search_scores(self, state: State, target: Target) -> tf.Tensor:
        """CP-GSU: Eq. (6) of all events, from their keys, [users, candidates, heads, time]."""
        # One candidate's axis, over which a feature of the event alone broadcasts.
        features = {name: value[:, tf.newaxis] for name, value in state[EVENTS].items()}
        buckets = self.cross_buckets(features, target)
        return tf.stop_gradient(self._scores(target, state[KEYS], buckets))

    def cross_buckets(self, features: State, target: Target) -> dict[str, tf.Tensor]:
        """Cross feature -> its value, int32 [users, candidates or 1, events].

        Args:
          features: raw features of events, each [users, candidates or 1, events].
          target: the candidates.
        """
        buckets = {}
        if self.times:
            check_features(target.features, [TIMESTAMP], CANDIDATE)
            now = target.features[TIMESTAMP][..., tf.newaxis]
            buckets["gap"] = gap_buckets(now - features[TIMESTAMP])
        if self.behavior_types:
            buckets["behavior_type"] = features[BEHAVIOR_TYPE]
        return buckets

    def _scores(self, target, keys, buckets):
        """Eq. (6), [users, candidates, heads, events]."""
        scores = self.attention.scores(target.embedding, keys)
        for name, bucket in buckets.items():
            scores += tf.cast(self.cross_features[name](bucket), scores.dtype)
        return scores
