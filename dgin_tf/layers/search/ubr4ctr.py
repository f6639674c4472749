"""UBR4CTR: a policy writes the query by which events are retrieved (Qin et al., 2020).

"User Behavior Retrieval for Click-Through Rate Prediction": of the candidate's attributes some are
chosen, by Bernoulli draws from probabilities that a small network gives, and BM25 retrieves the events
of this very user that agree in them. Retrieval passes no gradient; the policy learns by REINFORCE from
how well the prediction came out. An attribute of the user, which the authors' queries may contain, is
an attribute of all the user's events and ranks nothing, so that it is left out here.
"""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from dgin_tf.layers.events import EVENTS, MASK, State, Target
from dgin_tf.layers.normalization import LayerNorm
from dgin_tf.layers.search.unit import Found, SearchUnit, best
from dgin_tf.ops import bm25, hashing
from dgin_tf.schema import FIRST_ID

SELECTION_LOGITS, SELECTED = "selection_logits", "selected"
_STEPS = 1 << 24


@tf.keras.utils.register_keras_serializable("dgin_tf")
class FeatureSelection(tf.keras.layers.Layer):
    """The policy: self-attention over the candidate's attributes, then a network on each.

    Q = W_Q LN(X), K = W_K X, V = W_V X, heads of width dim / heads, the result added to LN(X).

    Args:
      heads: of the self-attention; must divide the width of an attribute's embedding.
      units: hidden layers of the network.
    """

    def __init__(self, heads: int = 2, units: Sequence[int] = (20, 10), **kwargs: Any):
        super().__init__(**kwargs)
        self.heads = heads
        self.units = tuple(units)
        policy = self.dtype_policy
        self.normalization = LayerNorm(name="normalization", dtype=policy)
        self.dense = [
            tf.keras.layers.Dense(width, "relu", name=f"dense{layer}", dtype=policy)
            for layer, width in enumerate(self.units, start=1)
        ]
        self.output_layer = tf.keras.layers.Dense(1, name="output", dtype=policy)

    def build(self, input_shape: Any) -> None:
        dim = tf.TensorShape(input_shape)[-1]
        if dim % self.heads:
            raise ValueError(
                f"heads must divide the width of an attribute's embedding, {dim}; got {self.heads}."
            )
        # A bias of the keys would move all scores of a row alike, so that there is none.
        self.kernels = [self.add_weight(name, [dim, dim]) for name in ("query", "key", "value")]
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
        attended = tf.einsum("uchfd->ucfhd", tf.matmul(tf.nn.softmax(scores), value))
        hidden = normal + tf.reshape(attended, tf.shape(normal))
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

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "heads": self.heads, "units": self.units}


@tf.keras.utils.register_keras_serializable("dgin_tf")
class AttributeSearch(SearchUnit):
    """Events that share the chosen attributes, by BM25; of equal scores the more recent first.

    In training, an attribute is chosen with its probability; otherwise where that is above one half.
    Where none is chosen, the newest events are found. A value outside the vocabulary agrees with
    nothing. The draws depend on the step, the user's events and the candidate alone, so that a resumed
    run repeats them and replicas draw what one device would.

    `Found.outputs` has `selection_logits` float32 and `selected` bool [users, candidates, fields].

    Args:
      fields: names of the attributes, in the order of their embeddings.
      k: how many events to find at most.
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
        if isinstance(policy, dict):
            policy = tf.keras.layers.deserialize(policy)
        self.fields = tuple(fields)
        self.policy = policy or FeatureSelection(name="policy", dtype=self.dtype_policy)
        self.seed = seed
        self.step = self.add_weight(
            "step",
            [],
            dtype=tf.int64,
            initializer="zeros",
            trainable=False,
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )

    def search(self, state: State, target: Target, training: bool = False) -> Found:
        """Chooses attributes and finds events; scores are BM25's."""
        wanted = [target.features[name] for name in self.fields]
        past = [state[EVENTS][name] for name in self.fields]
        mask = state[MASK]
        users, candidates, dim = tf.unstack(tf.shape(target.embedding))
        features = tf.reshape(
            tf.stop_gradient(target.embedding),
            [users, candidates, len(wanted), target.embedding.shape[-1] // len(wanted)],
        )
        logits = self.policy(features)
        if training:
            selected = self._draw(past, mask, wanted) < tf.sigmoid(logits)
        else:
            selected = logits > 0.0
        matches = tf.stack([_agree(*pair) for pair in zip(past, wanted, strict=True)], axis=2)
        scores = bm25.scores(matches, selected, mask)
        # Nothing asked for: everything is as good, and the newest is best.
        eligible = (scores > 0.0) | ~tf.reduce_any(selected, -1, keepdims=True)
        scores, places, found = best(scores, eligible & mask[:, tf.newaxis], self.k)
        return Found(places, found, scores, {SELECTION_LOGITS: logits, SELECTED: selected})

    def _draw(self, past, mask, wanted):
        """Numbers in [0, 1), [users, candidates, fields], that look uniform and independent."""
        step = tf.cast(self.step % _STEPS, tf.int32)
        self.step.assign_add(1)
        history = tf.reduce_sum(tf.where(mask, past[0], 0), axis=1)[:, tf.newaxis, tf.newaxis]
        parts = [step, history, *(ids[..., tf.newaxis] for ids in wanted), tf.range(len(wanted))]
        buckets = hashing.cross_bucket(parts, _STEPS, self.seed)
        return tf.cast(buckets, tf.float32) / _STEPS

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "fields": self.fields,
            "policy": tf.keras.layers.serialize(self.policy),
            "seed": self.seed,
        }


def _agree(past: tf.Tensor, wanted: tf.Tensor) -> tf.Tensor:
    """Where an event has a candidate's value, and a real one, bool [users, candidates, time]."""
    wanted = wanted[..., tf.newaxis]
    return (past[:, tf.newaxis] == wanted) & (wanted >= FIRST_ID)
