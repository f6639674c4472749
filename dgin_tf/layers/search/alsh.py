"""Soft search below linear time: an asymmetric hash index in place of brute force (SIM, section 3.2).

The paper's option of maximum inner product search. The state is the index. Every table orders the events
by their code; a candidate locates those of its own code by binary search, and only these few are
embedded and compared exactly. Up to some ten thousand events a user brute force is usually the faster
one.
"""

from typing import Any

import tensorflow as tf

from dgin_tf.layers.configured import ConfiguredLayer, as_layer
from dgin_tf.layers.events import (
    EVENTS,
    MASK,
    History,
    State,
    Tables,
    Target,
    append_in_time,
    embed_history,
    embed_ids,
    gather_features,
    store_events,
    stored_history,
)
from dgin_tf.layers.search.soft import SoftSearch
from dgin_tf.layers.search.unit import SearchResult, top_events
from dgin_tf.ops import mips
from dgin_tf.ops.event_order import EventOrder, at_most, newest_of_key, order_events

_PLACES, _KEYS = "table_places", "table_keys"


class AsymmetricHash(ConfiguredLayer):
    """L2-ALSH with its recommended m = 3, U = 0.83, r = 2.5, or sign-ALSH with m = 2, U = 0.75.

    Its projections are random, are not trained, and are saved with the model.

    Example:

      >>> AsymmetricHash(tables=4)(tf.random.normal([2, 100, 8]), tf.fill([2, 100], True)).shape
      TensorShape([2, 100, 4])

    Args:
      tables: L, how many codes an event has.
      hashes: K, how many hashes make a code.
      signs: whether it is sign-ALSH.
      seed: of the projections.

    Raises:
      ValueError: there are no tables or no hashes.
    """

    WIDTH = 2.5

    def __init__(
        self, tables: int = 32, hashes: int = 6, signs: bool = False, seed: int = 1, **kwargs: Any
    ):
        super().__init__(**kwargs)
        if tables < 1 or hashes < 1:
            raise ValueError(f"tables and hashes must be at least 1; got {tables} and {hashes}.")
        self.tables = tables
        self.hashes = hashes
        self.signs = signs
        self.seed = seed
        self.order, self.bound = (2, 0.75) if signs else (3, 0.83)

    def build(self, input_shape: Any) -> None:
        initializers, columns = tf.keras.initializers, self.tables * self.hashes
        self.projections = self.add_weight(
            "projections",
            [tf.TensorShape(input_shape)[-1] + self.order, columns],
            initializer=initializers.RandomNormal(stddev=1.0, seed=self.seed),
            trainable=False,
            experimental_autocast=False,
        )
        self.offsets = self.add_weight(
            "offsets",
            [columns],
            initializer=initializers.RandomUniform(0.0, self.WIDTH, seed=self.seed + 1),
            trainable=False,
            experimental_autocast=False,
        )
        super().build(input_shape)

    def call(self, vectors: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor:
        """Codes, int32 [users, time or candidates, tables].

        Args:
          vectors: events [users, time, dim] with a mask, or queries [users, candidates, dim].
          mask: True where the event is real, bool [users, time]; None for queries.
        """
        vectors = tf.cast(vectors, tf.float32)
        if mask is not None:
            vectors = mips.scaled(vectors, mask, self.bound)
        else:
            vectors = mips.normalized(vectors)
        if self.signs:
            transform = mips.sign_query if mask is None else mips.sign_data
            hashes = mips.sign_hashes(transform(vectors, self.order), self.projections)
        else:
            transform = mips.l2_query if mask is None else mips.l2_data
            vectors = transform(vectors, self.order)
            hashes = mips.l2_hashes(vectors, self.projections, self.offsets, self.WIDTH)
        return mips.table_codes(hashes, self.tables)


class ALSHSearch(SoftSearch):
    """`SoftSearch` that, except in training, compares a candidate only with events of its buckets.

    Where some candidate of a batch has fewer than k events in its buckets and its user has more, the
    whole batch is searched by brute force, unless `fallback` is off.

    It takes the weights of a `SoftSearch`, and its place in a model:

      >>> model = SIMSoft(schema, search=ALSHSearch(k=50))  # doctest: +SKIP

    Example:

      >>> target, events = tf.random.normal([2, 4, 8]), tf.random.normal([2, 100, 8])
      >>> ALSHSearch(k=3)(target, (events, tf.fill([2, 100], True))).topk_indices.shape
      TensorShape([2, 4, 3])

    Args:
      hashing: codes of events and queries; None for the default `AsymmetricHash`.
      bucket: how many events, the newest ones, are taken from one bucket.
      fallback: whether brute force helps out.
      **kwargs: as for `SoftSearch`.
    """

    def __init__(
        self,
        hashing: AsymmetricHash | None = None,
        bucket: int = 64,
        fallback: bool = True,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.hashing = as_layer(hashing, AsymmetricHash) or AsymmetricHash(name="hashing")
        self.bucket = bucket
        self.fallback = fallback

    def prepare(self, history: History, training: bool = False) -> State:
        """The index: `table_places` and `table_keys`, int32 [users, time, tables]; none in training."""
        return {} if training else self._index(history)

    def search(self, state: State, target: Target, training: bool = False) -> SearchResult:
        """Retrieves events; auxiliary logits need all events, so that training alone has them."""
        if _PLACES not in state:
            return super().search(state, target, training=training)
        if not self.network.weights:  # create them now, since nothing below calls the network
            super().search(_without_index(state), target, training=training)
        query = self.query(target.embedding)
        result = self._search_buckets(state, query, target)
        if not self.fallback:
            return result
        real = tf.math.count_nonzero(state[MASK], axis=1, dtype=tf.int32)
        least = tf.minimum(real, self.k)[:, tf.newaxis]
        enough = tf.math.count_nonzero(result.mask, axis=2, dtype=tf.int32) >= least
        enough = tf.reduce_all(enough | ~target.mask)
        indices, mask, scores = tf.cond(
            enough,
            lambda: result[:3],
            lambda: self.brute_force(_without_index(state), query, target.tables)[:3],
        )
        return SearchResult(indices, mask, scores)

    def append(self, state: State, newer: State, tables: Tables) -> State:
        """Builds the index anew: a longer event changes the scale of all."""
        events = append_in_time(_without_index(state), _without_index(newer))
        return {**events, **self._index(stored_history(events, tables))}

    def _index(self, history: History) -> State:
        codes = self.hashing(embed_history(history, self.compute_dtype).events, history.mask)
        users, time, tables = tf.unstack(tf.shape(codes))
        # Every table orders the events by itself: [users * tables, time].
        keys = tf.reshape(tf.transpose(codes, [0, 2, 1]), [users * tables, time])
        order = order_events(keys, tf.repeat(history.mask, tables, axis=0))
        shape = [users, tables, time]
        return {
            name: tf.transpose(tf.reshape(values, shape), [0, 2, 1])
            for name, values in ((_PLACES, order.places), (_KEYS, order.keys))
        }

    def candidates_of(self, state: State, query: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The events in a candidate's buckets, each once.

        Args:
          state: with the index.
          query: [users, candidates, dim].

        Returns:
          Places in time, int32 [users, candidates, any number], and whether there is an event.
        """
        time = tf.shape(state[MASK])[1]
        places = self._bucket_places(state, self.hashing(query), time)
        # In the order of time, so that what several tables name stands side by side.
        places = tf.sort(places, axis=-1)
        before = tf.pad(places[..., :-1], [[0, 0], [0, 0], [1, 0]], constant_values=-1)
        mask = (places < time) & (places != before[..., : tf.shape(places)[-1]])
        return tf.where(mask, places, 0), mask

    def _search_buckets(self, state: State, query: tf.Tensor, target: Target) -> SearchResult:
        """The best among the events of a candidate's buckets."""
        places, mask = self.candidates_of(state, query)
        features = gather_features(state[EVENTS], places)
        events = embed_ids(target.tables, features, self.compute_dtype, mask)
        scores = tf.matmul(tf.cast(events, query.dtype), query[..., tf.newaxis])[..., 0]
        best, width = top_events(scores, mask, self.k), at_most(self.k, state[MASK])
        # Places among the buckets' events as places in time.
        places = tf.gather(places, best.topk_indices, batch_dims=2)
        result = (places, best.mask, best.scores)
        return SearchResult(*tf.nest.map_structure(lambda values: values[..., :width], result))

    def _bucket_places(self, state: State, codes: tf.Tensor, time: tf.Tensor) -> tf.Tensor:
        """Places of the events that share a code, `time` where there is none.

        Returns:
          int32 [users, candidates, at least k], repeated where several codes are shared.
        """
        users, candidates = tf.unstack(tf.shape(codes)[:2])

        def by_table(values: tf.Tensor) -> tf.Tensor:
            values = tf.transpose(values, [0, 2, 1])
            return tf.reshape(values, [users * self.hashing.tables, tf.shape(values)[2]])

        order = EventOrder(by_table(state[_PLACES]), by_table(state[_KEYS]))
        places, mask = newest_of_key(order, by_table(codes), self.bucket)
        places = tf.where(mask, places, time)
        # [users * tables, candidates, bucket] -> [users, candidates, tables * bucket]
        width = tf.shape(places)[-1]
        places = tf.reshape(places, [users, self.hashing.tables, candidates, width])
        width *= self.hashing.tables
        places = tf.reshape(tf.transpose(places, [0, 2, 1, 3]), [users, candidates, width])
        missing = tf.maximum(tf.minimum(self.k, time) - width, 0)
        return tf.pad(places, [[0, 0], [0, 0], [0, missing]], constant_values=time)


def _without_index(state: State) -> State:
    return {name: value for name, value in state.items() if name not in (_PLACES, _KEYS)}


def recall(unit: ALSHSearch, history: History, target: Target) -> tuple[float, float]:
    """The recall of an index against exact search, averaged over candidates of users with a choice.

    Those are real candidates of users with more than k events; the mean of none is NaN.

    Args:
      unit: without its fallback, which would make every search exact.
      history: the events to index.
      target: the candidates to search for.

    Returns:
      Share of the exact k that is retrieved, and share of the events that were compared.

    Raises:
      ValueError: the unit falls back on brute force.
    """
    if unit.fallback:
        raise ValueError("recall is that of the index alone; give the unit fallback=False.")
    state = {**store_events(history), **unit.prepare(history)}
    query = unit.query(target.embedding)
    exact = unit.brute_force(_without_index(state), query, target.tables)
    result = unit.search(state, target)
    # [users, candidates, k of the exact search, k of the index]
    common = (exact.topk_indices[..., tf.newaxis] == result.topk_indices[..., tf.newaxis, :]) & (
        exact.mask[..., tf.newaxis] & result.mask[..., tf.newaxis, :]
    )

    def count(mask: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(tf.cast(mask, tf.float32), -1)

    length = count(history.mask)[:, tf.newaxis]
    rows = target.mask & (length > unit.k)
    hits, (_, comparisons) = tf.reduce_any(common, -1), unit.candidates_of(state, query)
    shares = (
        tf.math.divide_no_nan(count(hits), count(exact.mask)),
        tf.math.divide_no_nan(count(comparisons), length),
    )
    hit_share, compared_share = (float(tf.reduce_mean(tf.boolean_mask(s, rows))) for s in shares)
    return hit_share, compared_share
