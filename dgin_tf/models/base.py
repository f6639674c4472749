"""What all click-through-rate models share: embed, encode interests, score candidates.

A model is cut where serving cuts it. `encode_user` depends on the user alone and gives a state;
`score` is all that a request pays for: one state against many candidates. Training runs the two in
one graph, so that a positive and its negatives share one encoding.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf
import tensorflow_recommenders as tfrs

from dgin_tf import losses
from dgin_tf.layers.embedding import FeatureEmbedding
from dgin_tf.layers.interest_encoder import (
    AUXILIARY_LOGITS,
    Excerpt,
    History,
    InterestEncoder,
    Kept,
    State,
    Target,
)
from dgin_tf.layers.tower import Tower
from dgin_tf.ops.compiling import leaving_xla
from dgin_tf.records import LABEL
from dgin_tf.schema import Schema

USER_STATE = "user_embedding"


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """How ids are embedded and how the head is built; the same for every model of a comparison.

    Attributes:
      embedding_dim: n_E, width of one field's embedding.
      user_fields: user fields that join the head; () for none, None for the variant's, which is none
        in the papers and the user's id in the released code.
      tower_units: widths of the head's hidden layers.
      activation: the head's activation, see `Tower`.
      normalization: the head's input normalization, see `Tower`.
      two_way: whether the head ends in two outputs and a softmax, see `Tower`.
      loss_scale: `mean_over_samples` or `official_half`, see `losses.target_loss`.
      embedding_limit: embeddings start within [-limit, limit], see `FeatureEmbedding`.
      momentum: of the moving averages that normalize the head's input at test time; None for the
        default of `Tower`. Lower where means move by their own deviation within a hundred steps, as
        those of averages over hundreds of large embeddings do: scores then come out well in training
        and nowhere else.
    """

    embedding_dim: int = 18
    user_fields: tuple[str, ...] | None = None
    tower_units: tuple[int, ...] = (200, 80)
    activation: str = "dice"
    normalization: str = "batch"
    two_way: bool = False
    loss_scale: str = losses.MEAN_OVER_SAMPLES
    embedding_limit: float | None = None
    momentum: float | None = None

    def embedding(self, schema: Schema) -> FeatureEmbedding:
        return FeatureEmbedding(
            schema,
            self.embedding_dim,
            self.user_fields or (),
            self.embedding_limit,
            name="embedding",
        )

    def tower(self, name: str = "tower") -> Tower:
        momentum = {} if self.momentum is None else {"momentum": self.momentum}
        return Tower(
            self.tower_units,
            activation=self.activation,
            normalization=self.normalization,
            two_way=self.two_way,
            name=name,
            **momentum,
        )


class CTRModel(tfrs.models.Model):
    """Embedding, one or more interest encoders, tower.

    Subclasses pass their encoders and, where the head is special, override `head`.

    Args:
      schema: the data.
      encoders: name -> encoder. State and intermediates of an encoder carry its name as a prefix,
        except for the encoder named "".
      config: embedding and head.
    """

    def __init__(
        self,
        schema: Schema,
        encoders: Mapping[str, InterestEncoder],
        config: ModelConfig | None = None,
        name: str | None = None,
    ):
        super().__init__(name=name)
        # What a step reports is the metrics' results, which are over all replicas already; by default
        # Keras would add them up over the workers of a cluster.
        self.distribute_reduction_method = "first"
        config = config or ModelConfig()
        self.schema = schema
        self.loss_scale = config.loss_scale
        self.embedding = config.embedding(schema)
        self.encoders = dict(encoders)
        self.tower = config.tower()
        self._jit_compile_gradients = False
        names = ("loss", "target", "regularization", *self.auxiliary_loss_names)
        self._means = {name: tf.keras.metrics.Mean(name=name) for name in names}

    def condense(self, features: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """What the model reads of a batch, found by ids alone and without a weight.

        Where batches are read this costs no step of training, and what it leaves out is never copied
        or embedded. Scores and gradients are the same with and without it.

        Args:
          features: a batch.

        Returns:
          A batch; the same one by default. Where histories are no longer whole, `history_length`
          [users] says how long they were.
        """
        return dict(features)

    def encode_user(self, features: Mapping[str, tf.Tensor], training: bool = False) -> State:
        """What depends on the user alone: every encoder's state and the user's own embedding.

        Args:
          features: `hist_*` and `hist_mask` [users, time], `user_*` [users].

        Returns:
          Name -> tensor [users, ...].
        """
        return self._encode(self.embedding.history(features), features, training)

    def score(
        self, state: State, features: Mapping[str, tf.Tensor], training: bool = False
    ) -> State:
        """Scores candidates against states.

        Args:
          state: what `encode_user` gave.
          features: `cand_*` and `cand_mask` [users, candidates].

        Returns:
          `logits`, float32 [users, candidates], and the encoders' named intermediates.
        """
        target = self.embedding.target(features)
        parts, outputs = {}, {}
        if USER_STATE in state:
            parts["user"] = _for_each_candidate(state[USER_STATE], target)
        parts["target"] = target.embedding
        for name, encoder in self.encoders.items():
            found = encoder.interest(_without_prefix(state, name), target, training=training)
            outputs.update(_with_prefix(found, name))
            parts[_prefix(name) + "interest"] = found["interest"]
        outputs["logits"] = tf.cast(self.head(parts, target, training=training), tf.float32)
        return outputs

    def head(
        self, parts: Mapping[str, tf.Tensor], target: Target, training: bool = False
    ) -> tf.Tensor:
        """Logits [users, candidates] of the parts, each [users, candidates, dim]."""
        joined = tf.concat(list(parts.values()), axis=-1)
        return self.tower(joined, mask=target.mask, training=training)

    def call(self, features: Mapping[str, tf.Tensor], training: bool = False) -> State:
        """Encodes and scores a batch.

        Returns:
          `logits`, the state, the named intermediates, and the encoders' auxiliary losses [users]
          under `loss/<name>` where the batch has what they need.
        """
        return self._encode_and_score(features, training)

    @tf.autograph.experimental.do_not_convert  # see train_step; Keras wants to see `call` itself
    def _encode_and_score(self, features, training):
        history = self.embedding.history(features)
        state = self._encode(history, features, training)
        outputs = {**state, **self.score(state, features, training=training)}
        for name, encoder in self.encoders.items():
            for kind, loss in encoder.auxiliary_losses(
                _without_prefix(state, name), history
            ).items():
                outputs[f"loss/{_prefix(name)}{kind}"] = loss
        return outputs

    def update_user(self, state: State, features: Mapping[str, tf.Tensor]) -> State:
        """Folds newer events into a state.

        Args:
          state: what `encode_user` or an earlier update gave.
          features: `hist_*` and `hist_mask` [users, time] of the newer events alone.

        Raises:
          NotImplementedError: an encoder's state is not incremental.
        """
        history = self.embedding.history(features)
        updated = {
            _prefix(name) + key: value
            for name, encoder in self.encoders.items()
            for key, value in encoder.update(_without_prefix(state, name), history).items()
        }
        return {**state, **updated}

    @property
    def excerpt(self) -> Excerpt | None:
        """What of a history the scores depend on; None for all of it."""
        encoders = list(self.encoders.values())
        return encoders[0].excerpt if len(encoders) == 1 else None

    @classmethod
    def wants_negatives(cls, arguments: Mapping[str, Any]) -> bool:
        """Whether a loss needs a sampled non-click for every past event of a training batch.

        Args:
          arguments: of the constructor, by name.
        """
        del arguments
        return False

    @property
    def kept(self) -> Kept | None:
        """What serving keeps of each person where an index holds the histories; None for nothing.

        The other states are then encoded of an `excerpt` for every request.
        """
        return None

    @property
    def is_incremental(self) -> bool:
        """Whether `update_user` works, that is, every encoder can fold events into its state."""
        return all(encoder.is_incremental for encoder in self.encoders.values())

    @property
    def auxiliary_loss_names(self) -> list[str]:
        """Names of the losses that the encoders may add to the target's."""
        return [
            _prefix(name) + kind
            for name, encoder in self.encoders.items()
            for kind in (
                *encoder.auxiliary_loss_names,
                *([] if encoder.auxiliary_logits_weight is None else [AUXILIARY_LOGITS]),
            )
        ]

    @property
    def embedding_variables(self) -> list[tf.Variable]:
        """The tables: large, with sparse gradients, the optimizer's row-wise part."""
        return list(self.embedding.tables.values())

    @property
    def dense_variables(self) -> list[tf.Variable]:
        """Trainable variables that are no tables."""
        tables = {id(variable) for variable in self.embedding_variables}
        return [v for v in self.trainable_variables if id(v) not in tables]

    def compute_losses(
        self, features: Mapping[str, tf.Tensor], outputs: State
    ) -> dict[str, tf.Tensor]:
        """Name -> loss of this replica; the replicas' sum is the mean over the global batch.

        `target` is Eq. (2) of the DIEN paper; auxiliary losses are averaged over the users (rows).
        """
        mask = features["cand_mask"]
        found = {
            "target": losses.target_loss(
                outputs["logits"], features[LABEL], mask, loss_scale=self.loss_scale
            )
        }
        is_row = tf.reduce_any(mask, axis=1)
        for name, value in outputs.items():
            if name.startswith("loss/"):
                found[name.removeprefix("loss/")] = losses.global_mean(value, is_row)
        for name, encoder in self.encoders.items():
            if (logits := outputs.get(_prefix(name) + AUXILIARY_LOGITS)) is not None:
                loss = losses.target_loss(logits, features[LABEL], mask, loss_scale=self.loss_scale)
                found[_prefix(name) + AUXILIARY_LOGITS] = encoder.auxiliary_logits_weight * loss
        if self.losses:
            found["regularization"] = tf.nn.scale_regularization_loss(tf.add_n(self.losses))
        return found

    def compile(self, *args: Any, jit_compile: bool | None = None, **kwargs: Any) -> None:
        """As Keras's, except that `jit_compile` is for losses and gradients, and for one device alone.

        How many rows of a table a batch looked up is not known beforehand, so that XLA cannot compile
        the optimizer's part of a step.
        """
        super().compile(*args, jit_compile=False, **kwargs)
        self._jit_compile_gradients = bool(jit_compile)

    def make_train_function(self, force: bool = False) -> Callable[..., Any]:
        """As Keras's; makes the slots of a built model before a step is traced, which it would be twice."""
        if self.built and hasattr(self.optimizer, "build"):
            self.optimizer.build(self.trainable_variables)
        return super().make_train_function(force)

    # There is nothing to convert, here and in all that it calls, and looking takes seconds.
    @tf.autograph.experimental.do_not_convert
    def train_step(self, features):
        """One step on a batch of features; see `compute_losses` for what replicas sum to.

        tensorflow-recommenders' own step adds regularization once a replica, reports the last
        batch's loss and ignores loss scaling, hence this one.
        """
        differentiate = self._losses_and_gradients
        if self._jit_compile_gradients:
            differentiate = tf.function(differentiate, jit_compile=True, autograph=False)
        with leaving_xla(not self._jit_compile_gradients):
            parts, gradients = differentiate(features)
        gradients = losses.unscale(self.optimizer, gradients)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        return self._report(parts)

    def _losses_and_gradients(self, features):
        """The losses, `loss` being all of them, and its gradients, scaled as the optimizer wants."""
        with tf.GradientTape() as tape:
            parts = self.compute_losses(features, self(features, training=True))
            loss = tf.add_n(list(parts.values()))
            scaled = losses.scale(self.optimizer, loss)
        return {"loss": loss, **parts}, tape.gradient(scaled, self.trainable_variables)

    def test_step(self, features):
        parts = self.compute_losses(features, self(features, training=False))
        return self._report({"loss": tf.add_n(list(parts.values())), **parts})

    def predict_step(self, features):
        """Probabilities [users, candidates]; Keras hands arrays over wrapped, data sets bare."""
        features, _, _ = tf.keras.utils.unpack_x_y_sample_weight(features)
        return tf.sigmoid(self(features, training=False)["logits"])

    def _encode(self, history: History, features, training) -> State:
        state = {
            _prefix(name) + key: value
            for name, encoder in self.encoders.items()
            for key, value in encoder.encode(history, training=training).items()
        }
        user = self.embedding.user(features)
        return state if user is None else {**state, USER_STATE: user}

    def _report(self, parts):
        """Means since the epoch began. Replicas hold shares of a sum, the metric averages them."""
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        for name, value in parts.items():
            self._means[name].update_state(tf.cast(value, tf.float32) * replicas)
        return {name: self._means[name].result() for name in parts}


def _prefix(name: str) -> str:
    return f"{name}_" if name else ""


def _with_prefix(tensors: State, name: str) -> State:
    return {_prefix(name) + key: value for key, value in tensors.items()}


def _without_prefix(state: State, name: str) -> State:
    prefix = _prefix(name)
    return {key.removeprefix(prefix): v for key, v in state.items() if key.startswith(prefix)}


def _for_each_candidate(user: tf.Tensor, target: Target) -> tf.Tensor:
    """[users, dim] -> [users, candidates, dim]."""
    candidates = tf.shape(target.embedding)[1]
    return tf.repeat(user[:, None, :], candidates, axis=1)
