"""UBR4CTR: a policy writes the query by which events are retrieved (Qin et al., 2020).

"User Behavior Retrieval for Click-Through Rate Prediction": of the candidate's attributes some are
selected, by Bernoulli draws from probabilities that a small network gives, and BM25 (Robertson et al.,
1995) retrieves the events of this very user that agree in them. Retrieval passes no gradient; the
policy learns by REINFORCE from how well the prediction came out. An attribute of the user, which the
authors' queries may contain, is an attribute of all the user's events and ranks nothing, so that it is
left out here.
"""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from dgin_tf.layers.configured import KernelLayer, as_layer
from dgin_tf.layers.events import EVENTS, MASK, State, Target
from dgin_tf.layers.normalization import LayerNorm
from dgin_tf.layers.search.unit import SearchResult, SearchUnit, add_step_counter, draw, top_events
from dgin_tf.schema import FIRST_ID

SELECTION_LOGITS, SELECTED = "selection_logits", "selected"


def inverse_document_frequency(matching: tf.Tensor, documents: tf.Tensor) -> tf.Tensor:
    """log(1 + (N - n + 1/2) / (n + 1/2)), positive for every n up to N.

    Args:
      matching: n, in how many documents the term occurs.
      documents: N, how many there are.

    Returns:
      float32, in the broadcast shape.
    """
    matching, documents = tf.cast(matching, tf.float32), tf.cast(documents, tf.float32)
    return tf.math.log1p((documents - matching + 0.5) / (matching + 0.5))


def bm25_scores(matches: tf.Tensor, query: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """BM25 where a document is one past event of a user and its terms are its attributes.

    A term occurs in an event once or not at all and all events are equally long, so that the saturation
    tf (k_1 + 1) / (tf + k_1 (1 - b + b |D| / avgdl)) is 1 for every match: what is left is the sum of
    the inverse document frequencies of the terms that agree.

    Args:
      matches: where event and candidate have the same real value, bool [users, candidates, fields, time].
      query: which fields are in the query, bool [users, candidates, fields].
      mask: True where the event is real, bool [users, time]; the user's own events are the collection.

    Returns:
      float32 [users, candidates, time]; zero where no field of the query agrees, and where masked.
    """
    matches &= mask[:, tf.newaxis, tf.newaxis]
    count = tf.math.count_nonzero(matches, axis=-1, dtype=tf.int32)
    documents = tf.math.count_nonzero(mask, axis=-1, dtype=tf.int32)[:, tf.newaxis, tf.newaxis]
    weight = inverse_document_frequency(count, documents) * tf.cast(query, tf.float32)
    # [users, candidates, 1, fields] x [users, candidates, fields, time]
    return tf.matmul(weight[:, :, tf.newaxis], tf.cast(matches, tf.float32))[:, :, 0]


class FeatureSelection(KernelLayer):
    """The policy: self-attention over the candidate's attributes, then a network on each.

    Q = W_Q LN(X), K = W_K X, V = W_V X, heads of width dim / heads, the result added to LN(X).

    Example:

      >>> FeatureSelection(heads=2)(tf.random.normal([2, 3, 5, 8])).shape
      TensorShape([2, 3, 5])

    Args:
      heads: of the self-attention; must divide the width of an attribute's embedding.
      units: hidden layers of the network.
      kernel_initializer, kernel_regularizer: of all kernels.
    """

    def __init__(self, heads: int = 2, units: Sequence[int] = (20, 10), **kwargs: Any):
        super().__init__(**kwargs)
        self.heads = heads
        self.units = tuple(units)
        policy = self.dtype_policy
        self.normalization = LayerNorm(name="normalization", dtype=policy)
        self.dense = [
            tf.keras.layers.Dense(
                width, "relu", name=f"dense{layer}", dtype=policy, **self.kernel_config
            )
            for layer, width in enumerate(self.units, start=1)
        ]
        self.output_layer = tf.keras.layers.Dense(
            1, name="output", dtype=policy, **self.kernel_config
        )

    def build(self, input_shape: Any) -> None:
        dim = tf.TensorShape(input_shape)[-1]
        if dim % self.heads:
            raise ValueError(
                f"heads must divide the width of an attribute's embedding, {dim}; got {self.heads}."
            )
        # A bias of the keys would move all scores of a row alike, so that there is none. Scores do not
        # start as a similarity: between the attributes of one candidate that gains nothing.
        self.kernels = [self.add_kernel(name, [dim, dim]) for name in ("query", "key", "value")]
        super().build(input_shape)

    def call(self, features: tf.Tensor) -> tf.Tensor:
        """Logits of the selection probabilities: [users, candidates, fields, dim] -> [..., fields]."""
        normal = self.normalization(features)
        query, key, value = (
            self._split(tf.matmul(x, tf.convert_to_tensor(kernel)))
            for x, kernel in zip((normal, features, features), self.kernels, strict=True)
        )
        scores = tf.matmul(query, key, transpose_b=True)
        scores /= tf.sqrt(tf.cast(query.shape[-1], scores.dtype))
        attended_values = tf.einsum("uchfd->ucfhd", tf.matmul(tf.nn.softmax(scores), value))
        hidden = normal + tf.reshape(attended_values, tf.shape(normal))
        for dense in self.dense:
            hidden = dense(hidden)
        return tf.cast(self.output_layer(hidden)[..., 0], tf.float32)

    def _split(self, x):
        """[users, candidates, fields, dim] -> [users, candidates, heads, fields, dim / heads]."""
        users, candidates, fields, dim = tf.unstack(tf.shape(x))
        width = x.shape[-1] // self.heads
        return tf.einsum(
            "ucfhd->uchfd", tf.reshape(x, [users, candidates, fields, self.heads, width])
        )


class AttributeSearch(SearchUnit):
    """Events that share the selected attributes, by BM25; of equal scores the more recent first.

    In training, an attribute is selected with its probability; otherwise where that is above one half.
    An empty query retrieves the newest events. A value outside the vocabulary agrees with nothing. The
    draws depend on the step, the user's events and the candidate alone, so that a resumed run repeats
    them and replicas draw what one device would.

    `SearchResult.outputs` has `selection_logits` float32 and `selected` bool
    [users, candidates, fields].

    Example:

      >>> from dgin_tf.layers.events import History
      >>> events = History(None, tf.fill([1, 4], True), {"shop": tf.constant([[7, 4, 7, 5]])})
      >>> shop = {"shop": tf.constant([[7]])}
      >>> target = Target(tf.random.normal([1, 1, 8]), tf.fill([1, 1], True), shop)
      >>> AttributeSearch(["shop"], k=2)(target, events).outputs["selected"].shape
      TensorShape([1, 1, 1])

    Args:
      fields: names of the attributes, in the order of their embeddings.
      k: how many events to retrieve at most.
      policy: a `FeatureSelection`; None for the paper's.
      seed: of the draws.
    """

    def __init__(
        self,
        fields: Sequence[str],
        k: int = 20,
        policy: FeatureSelection | None = None,
        seed: int = 1,
        **kwargs: Any,
    ):
        super().__init__(k, **kwargs)
        self.fields = tuple(fields)
        self.policy = as_layer(policy) or FeatureSelection(name="policy", dtype=self.dtype_policy)
        self.seed = seed
        self.step = add_step_counter(self)

    def search(self, state: State, target: Target, training: bool = False) -> SearchResult:
        """Selects attributes and retrieves events; scores are BM25's."""
        keys = [target.features[name] for name in self.fields]
        past = [state[EVENTS][name] for name in self.fields]
        mask = state[MASK]
        # The embedding of a candidate is those of its fields side by side, of which some are no keys.
        has_all = set(self.fields) <= set(target.tables)
        names = tuple(target.tables) if has_all else self.fields
        parts = tf.split(tf.stop_gradient(target.embedding), len(names), axis=-1)
        attributes = tf.stack([parts[names.index(name)] for name in self.fields], axis=2)
        logits = self.policy(attributes)
        if training:
            history = tf.reduce_sum(tf.where(mask, past[0], 0), axis=1)[:, tf.newaxis, tf.newaxis]
            ids = [history, *(key[..., tf.newaxis] for key in keys), tf.range(len(keys))]
            selection = draw(self.step, ids, self.seed) < tf.sigmoid(logits)
        else:
            selection = logits > 0.0
        matches = tf.stack([_agree(*pair) for pair in zip(past, keys, strict=True)], axis=2)
        scores = bm25_scores(matches, selection, mask)
        # For an empty query every event is as good, and the newest is best.
        eligible = (scores > 0.0) | ~tf.reduce_any(selection, -1, keepdims=True)
        result = top_events(scores, eligible & mask[:, tf.newaxis], self.k)
        return result._replace(outputs={SELECTION_LOGITS: logits, SELECTED: selection})


def _agree(past: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
    """Mask of events with a candidate's value, a known one, bool [users, candidates, time]."""
    keys = keys[..., tf.newaxis]
    return (past[:, tf.newaxis] == keys) & (keys >= FIRST_ID)
