"""The base of all click-through-rate models: embed, encode interests, score candidates.

A model is cut where serving cuts it. `encode_user` depends on the user alone and gives a state;
`score` is all that a request pays for: one state against many candidates. Training runs the two in
one graph, so that a positive and its negatives share one encoding.
"""

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

from dgin_tf import losses
from dgin_tf.layers.configured import as_config, as_layer, register
from dgin_tf.layers.embedding import FeatureEmbedding, role_mask
from dgin_tf.layers.events import History, State, Target, embed_history
from dgin_tf.layers.interest_encoder import (
    AUXILIARY_LOGITS,
    INTEREST,
    LOSSES,
    STATE,
    InterestEncoder,
)
from dgin_tf.layers.pooling import Pooling
from dgin_tf.layers.tower import Tower
from dgin_tf.models.behavior_types import select_types, type_ids
from dgin_tf.models.serving_spec import ServingSpec
from dgin_tf.ops.compiling import leaving_xla
from dgin_tf.ops.parts import PARTS, join_outputs, join_rows, parts_of, split_rows
from dgin_tf.optimizers import restore_optimizer
from dgin_tf.records import LABEL
from dgin_tf.schema import (
    CANDIDATE,
    CANDIDATE_MASK,
    FIRST_ID,
    HISTORY,
    MILLIONTHS,
    OF_ROWS,
    PREFIX,
    USER,
    Schema,
    feature_name,
)
from dgin_tf.schema import SAMPLE_WEIGHT as STORED_WEIGHT

OUTPUTS, LOGITS, SAMPLE_WEIGHT = "outputs", "logits", "sample_weight"
PROBABILITIES = "probabilities"
HISTORY_SUM = "history_sum"

MODELS: dict[str, type["CTRModel"]] = {}
"""By the `registry_name` of their classes; `dgin_tf.models.registry` imports and finds all."""


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Settings of embedding and head, the same for every model of a comparison.

    Attributes:
      embedding_dim: n_E, width of one field's embedding.
      user_fields: user fields that join the head; () for none, None for the variant's, which is none
        in the papers and the user's id in the released code. Columns that the data declare of users and
        requests join it in any case.
      tower_units: widths of the head's hidden layers.
      activation: the head's activation, see `Tower`.
      normalization: the head's input normalization, see `Tower`.
      two_way: whether the head ends in two outputs and a softmax, see `Tower`.
      loss_scale: `mean_over_samples` or `official_half`, see `losses.target_loss`.
      embedding_limit: embeddings start uniformly within [-limit, limit]; None for Glorot's.
      embedding_l2: lambda of DIN's mini-batch aware regularization, see `FeatureEmbedding`; the paper
        has .01.
      momentum: of the moving averages that normalize the head's input at test time; None for the
        default of `Tower`. Lower it where inputs drift fast, as averages over hundreds of large
        embeddings do; otherwise scores are good in training alone.
      history_sum: whether the sum of the history joins the head beside the model's own encoders, as in
        MIMN's code for every model of its tables.
      behavior_types: names of the types whose events are read, such as clicks alone; () for all. The other
        events of a history are left out before any of them is counted as one of the newest.
      newest_events: how many events of these types are read, the newest; None for all that a batch has.
    """

    embedding_dim: int = 18
    user_fields: tuple[str, ...] | None = None
    tower_units: tuple[int, ...] = (200, 80)
    activation: str = "dice"
    normalization: str = "batch"
    two_way: bool = False
    loss_scale: str = losses.MEAN_OVER_SAMPLES
    embedding_limit: float | None = None
    embedding_l2: float = 0.0
    momentum: float | None = None
    history_sum: bool = False
    behavior_types: tuple[str, ...] = ()
    newest_events: int | None = None

    def embedding(self, schema: Schema) -> FeatureEmbedding:
        initializer, limit = None, self.embedding_limit
        if limit is not None:
            if not limit > 0:
                raise ValueError(f"embedding_limit must be positive, or None; got {limit}.")
            initializer = tf.keras.initializers.RandomUniform(-limit, limit)
        user_fields, l2 = self.user_fields or (), self.embedding_l2
        return FeatureEmbedding(
            schema, self.embedding_dim, user_fields, initializer, l2, name="embedding"
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


def _after_build(name: str) -> Callable[..., Any]:
    """A method of Keras' models that works before the first call too."""
    method = getattr(tfrs.models.Model, name)

    @functools.wraps(method)
    def build_first(self, *args, **kwargs):
        self.build()
        return method(self, *args, **kwargs)

    return build_first


@tf.keras.utils.register_keras_serializable("dgin_tf")
class CTRModel(tfrs.models.Model):
    """Embedding, one or more interest encoders, tower.

    Subclasses pass their encoders, and override `head` where theirs differs. Weights are created from the
    schema, so that `summary()` and `load_weights` need no batch.

    Attributes:
      Settings: where a constructor takes blocks, a frozen dataclass of the settings of these blocks that
        config files know; None where the constructor's own arguments are the settings.

    Args:
      schema: the data.
      encoders: name -> encoder. States, intermediates and losses are nested under these names.
      config: embedding and head.

    Raises:
      ValueError: an encoder is called `user`, as the state of the user's own fields is, or the schema
        lacks a behavior type of the config.
    """

    Settings: type | None = None
    built: bool

    penalizes_embedding: bool = True
    """Whether training penalizes the rows of the embedding; of nets that share one, one does."""

    def __init_subclass__(cls, registry_name: str = "", **kwargs: Any):
        """Registers the class with Keras, and in `MODELS` under the name that configs know."""
        super().__init_subclass__(**kwargs)
        register(cls)
        if registry_name:
            if MODELS.setdefault(registry_name, cls).__qualname__ != cls.__qualname__:
                raise ValueError(f"{registry_name!r} is the name of another model already.")
            MODELS[registry_name] = cls  # a notebook's cell defines a class again

    def __init__(
        self,
        schema: Schema,
        encoders: Mapping[str, InterestEncoder],
        config: ModelConfig | None = None,
        name: str | None = None,
    ):
        super().__init__(name=name)
        if USER in encoders:
            raise ValueError(f"no encoder may be called {USER!r}; got {list(encoders)}.")
        # What a step reports is the metrics' results, which are over all replicas already; by default
        # Keras would add them up over the workers of a cluster.
        self.distribute_reduction_method = "first"
        self.schema = schema
        self.config = config or ModelConfig()
        names, newest = self.config.behavior_types, self.config.newest_events
        if newest is not None and (newest < 1 or not names):
            raise ValueError(
                "newest_events is a positive number of the events of behavior_types; got "
                f"{newest} and {names}. Without types, data.max_history is that number."
            )
        self.type_ids = tuple(type_ids(schema, names).values()) if names else ()
        self.embedding = self.config.embedding(schema)
        if self.config.history_sum:
            encoders = {HISTORY_SUM: Pooling(name=HISTORY_SUM), **encoders}
        self.encoders = {name: as_layer(block, InterestEncoder) for name, block in encoders.items()}
        # Keras tracks plain dicts alone, which cannot be read-only.
        self._encoder_ids = [id(encoder) for encoder in self.encoders.values()]
        self.tower = self.config.tower()
        self._jit_compile_gradients = False
        self._class_weights: tuple[float, ...] | None = None
        names = ("loss", "target", "regularization", *self.auxiliary_loss_names)
        self._means = {name: tf.keras.metrics.Mean(name=name) for name in names}

    @classmethod
    def from_settings(
        cls, schema: Schema, config: ModelConfig | None = None, settings: Any = None
    ) -> "CTRModel":
        """Builds a model and its blocks from what a config file holds, see `registry.make_model`.

        Args:
          schema: the data.
          config: embedding and head.
          settings: a `Settings`; None for the defaults.
        """
        if settings is None and cls.Settings is not None:
            settings = cls.Settings()
        names = [name for name in _constructor_arguments(cls) if hasattr(settings, name)]
        arguments = {name: getattr(settings, name) for name in names}
        arguments |= cls.blocks(schema, config or ModelConfig(), settings)
        return cls(schema, config=config, **arguments)

    @classmethod
    def blocks(cls, schema: Schema, config: ModelConfig, settings: Any) -> dict[str, Any]:
        """The constructor's arguments that are no settings themselves, built from flat settings."""
        raise NotImplementedError(f"{cls.__name__} has no blocks that are built from settings.")

    def build(self, input_shape: Any = None) -> None:
        """Creates all weights, by scoring one event and one candidate of the schema."""
        if not self.built:
            self.built = True
            with tf.init_scope():
                self.call(example_features(self.schema))

    # Keras' own methods, which need the weights, of which `build` creates all.
    count_params, summary = map(_after_build, ("count_params", "summary"))
    set_weights, load_weights = map(_after_build, ("set_weights", "load_weights"))

    def encode_user(self, features: Mapping[str, tf.Tensor], training: bool = False) -> State:
        """Encodes the part that depends on the user alone.

        Args:
          features: `hist_*` and `hist_mask` [users, time], `user_*` [users].

        Returns:
          Encoder name -> its state; and `user` [users, dim] where the model reads user fields.
        """
        self.build()
        history = self.past_events(features)
        state = {
            name: encoder.encode(encoder.prepare(history), training=training)
            for name, encoder in self.encoders.items()
        }
        user = self.embedding.user(features)
        return state if user is None else {**state, USER: user}

    def score(
        self, state: State, features: Mapping[str, tf.Tensor], training: bool = False
    ) -> State:
        """Scores candidates against states.

        Args:
          state: what `encode_user` gave.
          features: `cand_*` and `cand_mask` [users, candidates], and `context_*` [users] where the
            schema has a context of requests.

        Returns:
          `logits`, float32 [users, candidates], and `outputs`, encoder name -> named intermediates.
        """
        self.build()
        target = self.embedding.target(features)
        outputs = {
            name: encoder.interest(state[name], target, training=training)
            for name, encoder in self.encoders.items()
        }
        of_rows = (state.get(USER), self.embedding.context(features))
        return self._scores(target, of_rows, outputs, training)

    def head(
        self, parts: Mapping[str, tf.Tensor], target: Target, training: bool = False
    ) -> tf.Tensor:
        """Logits [users, candidates] of the head's inputs.

        Args:
          parts: `user`, with the context of the request, `target` and every encoder's interest by its
            name, each [users, candidates, dim].
          target: candidates.
          training: whether this is a step of training.
        """
        joined = tf.concat(list(parts.values()), axis=-1)
        return self.tower(joined, mask=target.mask, training=training)

    def call(self, features: Mapping[str, tf.Tensor], training: bool = False) -> State:
        """Encodes and scores a batch.

        Returns:
          `logits`, `outputs` and `state` as `score` and `encode_user` give them, and `losses`, the
          encoders' own by name, each [users], where the batch has what they need.
        """
        return self._encode_and_score(features, training)

    @tf.autograph.experimental.do_not_convert  # see train_step; Keras wants to see `call` itself
    def _encode_and_score(self, features, training):
        if training and self.penalizes_embedding and self.embedding.mini_batch_l2:
            read = tuple(self._events_read(part) for part in parts_of(features))
            self.add_loss(self.embedding.penalty({PARTS: read}))
        rows = join_rows(features)
        target, user = self.embedding.target(rows), self.embedding.user(rows)
        splits = split_rows((target.embedding, target.mask, target.features), features)
        parts = [
            self._encode(part, target._replace(embedding=e, mask=m, features=f), training)
            for part, (e, m, f) in zip(parts_of(features), splits, strict=True)
        ]
        outputs = join_outputs(parts)
        state = {name: output.pop(STATE) for name, output in outputs.items()}
        losses_of = {
            self._loss_name(name, kind): loss
            for name, output in outputs.items()
            for kind, loss in output.pop(LOSSES).items()
        }
        if user is not None:
            state[USER] = user
        scores = self._scores(target, (user, self.embedding.context(rows)), outputs, training)
        return {**scores, STATE: state, LOSSES: losses_of}

    def _encode(self, features, target, training):
        history = self.past_events(features)
        return {
            name: encoder(target, history, training=training)
            for name, encoder in self.encoders.items()
        }

    def _scores(self, target, of_rows, outputs, training):
        parts = {}
        if values := [value for value in of_rows if value is not None]:
            candidates = tf.shape(target.embedding)[1]
            user = tf.concat(values, axis=-1)
            parts[USER] = tf.repeat(user[:, tf.newaxis], candidates, axis=1)
        parts["target"] = target.embedding
        parts.update({name: output[INTEREST] for name, output in outputs.items()})
        logits = tf.cast(self.head(parts, target, training=training), tf.float32)
        return {LOGITS: logits, OUTPUTS: outputs}

    def _events_read(self, features):
        """A batch without the events that the model does not read."""
        if not self.type_ids:
            return features
        return select_types(features, self.type_ids, self.schema, self.config.newest_events)

    def past_events(self, features: Mapping[str, tf.Tensor]) -> History:
        """The past events of a batch, as every encoder gets them; ids, not embedded."""
        features = self._events_read(features)
        history = self.embedding.history(features)
        if all(encoder.reads_ids for encoder in self.encoders.values()):
            return history
        # Embedded once, for all encoders that read every event.
        return embed_history(history, self.embedding.compute_dtype)

    def adapt(self, dataset: Iterable[Mapping[str, tf.Tensor]]) -> None:
        """Learns from training batches what no gradient teaches, before the first step.

        By default how often ids occur, where the embedding is regularized by it.

        Args:
          dataset: training batches, once through.
        """
        if self.embedding.mini_batch_l2:
            self.embedding.adapt(dataset)

    def update_user(self, state: State, features: Mapping[str, tf.Tensor]) -> State:
        """Folds newer events into a state.

        Args:
          state: what `encode_user` or an earlier update gave.
          features: `hist_*` and `hist_mask` [users, time] of the newer events alone.

        Raises:
          NotImplementedError: an encoder's state is not incremental.
        """
        history = self.past_events(features)
        newer = {
            name: encoder.update(state[name], encoder.prepare(history))
            for name, encoder in self.encoders.items()
        }
        return {**state, **newer}

    @classmethod
    def wants_negatives(cls, arguments: Mapping[str, Any]) -> bool:
        """True where a loss needs a sampled negative for every past event of a training batch.

        Args:
          arguments: settings by name.
        """
        return False

    @property
    def input_transforms(self) -> Sequence[Callable[[Mapping[str, Any]], dict[str, Any]]]:
        """Transforms of batches that run while they are read, such as grouping; none by default."""
        return ()

    @property
    def serving_spec(self) -> ServingSpec:
        """The parts of a history that scores depend on, by default its one encoder's.

        No index lists the newest events of some behavior types; whole histories are read there.
        """
        encoder, *others = self.encoders.values()
        return ServingSpec(None if others or self.type_ids else encoder.history_slice)

    @property
    def is_incremental(self) -> bool:
        """True where `update_user` works, that is, every encoder can fold events into its state."""
        return all(encoder.is_incremental for encoder in self.encoders.values())

    @property
    def auxiliary_loss_names(self) -> list[str]:
        """Names of the losses that the encoders may add to the target's."""
        return [
            self._loss_name(name, kind)
            for name, encoder in self.encoders.items()
            for kind in _loss_kinds(encoder)
        ]

    def _loss_name(self, encoder: str, kind: str) -> str:
        """Name of an encoder's loss; the encoder's own name is part of it where two have such a loss."""
        owners = [name for name, other in self.encoders.items() if kind in _loss_kinds(other)]
        return kind if len(owners) == 1 else f"{encoder}_{kind}"

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
        mask, labels = role_mask(features, CANDIDATE, self.schema), features[LABEL]
        parts = {
            "target": losses.target_loss(
                outputs[LOGITS], labels, mask, sample_weights(features), self.config.loss_scale
            )
        }
        is_row = tf.reduce_any(mask, axis=1)
        for name, value in outputs[LOSSES].items():
            parts[name] = losses.global_mean(value, is_row)
        for name, encoder in self.encoders.items():
            if (logits := outputs[OUTPUTS][name].get(AUXILIARY_LOGITS)) is not None:
                loss = losses.target_loss(logits, labels, mask, loss_scale=self.config.loss_scale)
                loss_name = self._loss_name(name, AUXILIARY_LOGITS)
                parts[loss_name] = encoder.auxiliary_logits_weight * loss
        if self.losses:
            parts["regularization"] = tf.nn.scale_regularization_loss(tf.add_n(self.losses))
        return parts

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        *args: Any,
        jit_compile: bool | None = None,
        **kwargs: Any,
    ) -> None:
        """Compiles as Keras does; `metrics` are computed over the real candidates' probabilities and labels.

        `jit_compile` is for losses and gradients, and for one device alone: how many rows of a table a
        batch looks up is not known beforehand, so that XLA cannot compile the optimizer's part.

        Raises:
          ValueError: there is a `loss`; the losses are those of the model's paper.
        """
        if loss is not None:
            raise ValueError(
                f"the losses of {type(self).__name__} are its paper's own (compute_losses); leave loss "
                "out of compile, and override compute_losses to change them."
            )
        super().compile(optimizer, None, *args, jit_compile=False, **kwargs)
        # Keras saves the moments of its own optimizers alone, those of the parts of another one here.
        self._optimizer_parts = list(getattr(self.optimizer, "optimizers", ()))
        self._jit_compile_gradients = bool(jit_compile)

    def compile_from_config(self, config: Mapping[str, Any]) -> None:
        """Compiles a model that is being loaded as it was compiled when it was saved."""
        deserialize = tf.keras.utils.deserialize_keras_object
        arguments = {
            name: deserialize(value) for name, value in config.items() if name != "optimizer"
        }
        self.compile(restore_optimizer(self, config["optimizer"]), **arguments)
        if hasattr(self.optimizer, "build"):
            self.optimizer.build(self.trainable_variables)

    def fit(
        self, *args: Any, class_weight: Mapping[int, float] | None = None, **kwargs: Any
    ) -> Any:
        """Fits as Keras does.

        Args:
          *args, **kwargs: of `tf.keras.Model.fit`.
          class_weight: weight of the loss of ignored candidates, 0, and of clicked ones, 1; as in Keras it
            multiplies the samples' own weights, and validation has none.

        Raises:
          ValueError: the weights are not two numbers that are finite and not negative.
        """
        if class_weight is None:
            return super().fit(*args, **kwargs)
        weights = [class_weight.get(label, math.nan) for label in (0, 1)]
        if len(class_weight) != 2 or not all(0 <= weight < math.inf for weight in weights):
            raise ValueError(
                "expected class_weight as {0: weight, 1: weight}, finite and not negative; got "
                f"{dict(class_weight)}."
            )
        # The step is traced with these weights, and afresh without them.
        self._class_weights, self.train_function = tuple(weights), None
        try:
            return super().fit(*args, **kwargs)
        finally:
            self._class_weights, self.train_function = None, None

    @property
    def metrics_names(self) -> list[str]:
        """Names of what the last steps reported, in the order in which `evaluate` returns it."""
        names = [name for name, mean in self._means.items() if float(mean.count) > 0]
        metrics = () if self.compiled_metrics is None else self.compiled_metrics.metrics
        return names + [metric.name for metric in metrics]

    def make_train_function(self, force: bool = False) -> Callable[..., Any]:
        """Makes what Keras makes, and weights and slots before a step is traced, which it would be twice."""
        self.build()
        if hasattr(self.optimizer, "build"):
            self.optimizer.build(self.trainable_variables)
        return super().make_train_function(force)

    # There is nothing to convert, here and in all that it calls, and looking takes seconds.
    @tf.autograph.experimental.do_not_convert
    def train_step(self, data):
        """One step on a batch; see `compute_losses` for what replicas sum to.

        tensorflow-recommenders' own step adds regularization once a replica, reports the last
        batch's loss and ignores loss scaling, hence this one.

        Args:
          data: features, or features and labels [users, candidates], and weights of the samples' losses
            beside them.
        """
        features = _features(data)
        if self._class_weights is not None:
            features = _with_class_weights(features, self._class_weights)
        differentiate = self._losses_and_gradients
        if self._jit_compile_gradients:
            differentiate = tf.function(differentiate, jit_compile=True, autograph=False)
        with leaving_xla(not self._jit_compile_gradients):
            parts, logits, gradients = differentiate(features)
        gradients = losses.unscale(self.optimizer, gradients)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        return self._report(parts, features, logits)

    def _losses_and_gradients(self, features):
        """The losses, `loss` being all of them, logits, and gradients scaled as the optimizer wants."""
        with tf.GradientTape() as tape:
            outputs = self(features, training=True)
            parts = self.compute_losses(join_rows(features), outputs)
            loss = tf.add_n(list(parts.values()))
            objective = losses.scale(self.optimizer, loss)
        gradients = tape.gradient(objective, self.trainable_variables)
        return {"loss": loss, **parts}, outputs[LOGITS], gradients

    def test_step(self, data):
        """Losses and metrics of a batch, which `train_step` takes too."""
        features = _features(data)
        outputs = self(features, training=False)
        parts = self.compute_losses(join_rows(features), outputs)
        parts = {"loss": tf.add_n(list(parts.values())), **parts}
        return self._report(parts, features, outputs[LOGITS])

    def predict_step(self, data):
        """Probabilities [users, candidates], and the mask of the candidates that are real."""
        features, _, _ = tf.keras.utils.unpack_x_y_sample_weight(data)
        probabilities = tf.sigmoid(self(features, training=False)[LOGITS])
        mask = role_mask(join_rows(features), CANDIDATE, self.schema)
        return {PROBABILITIES: probabilities, CANDIDATE_MASK: mask}

    def predict(self, *args: Any, **kwargs: Any) -> np.ndarray:
        """Probabilities [users, candidates] of the examples alone, in their order; arguments are Keras' own.

        Batches have a static shape, which rows without any candidate fill up; those rows are left out. NaN
        stands where a row has fewer candidates than the widest one, so that `scores[~np.isnan(scores)]` is one
        score an example.
        """
        outputs = super().predict(*args, **kwargs)
        probabilities, mask = outputs[PROBABILITIES], outputs[CANDIDATE_MASK]
        return np.where(mask, probabilities, np.nan)[mask.any(axis=1)]

    def predict_on_batch(self, x: Any) -> np.ndarray:
        """Probabilities [users, candidates] of one batch, padding among them."""
        return super().predict_on_batch(x)[PROBABILITIES]

    def _report(self, parts, features, logits):
        """Means since the epoch began. Replicas hold shares of a sum, the metric averages them."""
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        for name, value in parts.items():
            self._means[name].update_state(tf.cast(value, tf.float32) * replicas)
        report = {name: self._means[name].result() for name in parts}
        if self.compiled_metrics is None or not (
            self.compiled_metrics._user_metrics or self.compiled_metrics._user_weighted_metrics
        ):
            return report
        rows = join_rows(features)
        mask, labels = role_mask(rows, CANDIDATE, self.schema), rows[LABEL]
        probabilities = tf.reshape(tf.sigmoid(logits), [-1, 1])
        probabilities._keras_mask = tf.reshape(mask, [-1])  # how Keras metrics are told of padding
        self.compiled_metrics.update_state(tf.reshape(labels, [-1, 1]), probabilities)
        for metric in self.compiled_metrics.metrics:
            report[metric.name] = metric.result()
        return report

    def get_config(self) -> dict[str, Any]:
        """Schema, settings and blocks: the constructor's arguments, which `from_config` takes.

        Raises:
          ValueError: an encoder was replaced after construction.
        """
        if self._encoder_ids != [id(encoder) for encoder in self.encoders.values()]:
            raise ValueError(
                f"the encoders of a {type(self).__name__} are those that it was constructed with; got "
                "others since. Construct a model with the others."
            )
        head = dataclasses.asdict(self.config)
        config = {"schema": self.schema.to_json(), "config": head, "name": self.name}
        for name in _constructor_arguments(type(self)):
            if not hasattr(self, name):
                raise NotImplementedError(
                    f"{type(self).__name__} takes {name!r}, which get_config reads from the attribute "
                    f"of that name; set self.{name} in __init__, or override get_config."
                )
            config[name] = as_config(getattr(self, name))
        return config

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom_objects: Any = None) -> "CTRModel":
        """Inverse of `get_config`."""
        arguments = {name: _as_argument(config[name]) for name in _constructor_arguments(cls)}
        settings = {name: _as_tuple(value) for name, value in config["config"].items()}
        schema = Schema.from_json(config["schema"])
        model = cls(schema, config=ModelConfig(**settings), **arguments)
        model._name = config["name"]
        return model

    def get_build_config(self) -> dict[str, Any]:
        """Says no more than that there are weights: `build` takes all shapes from the schema."""
        return {"built": self.built}

    def build_from_config(self, config: Mapping[str, Any]) -> None:
        """Creates the weights of a model that is being loaded."""
        if config["built"]:
            self.build()


def example_features(schema: Schema) -> dict[str, tf.Tensor]:
    """The smallest batch of a schema: one user, one past event, one candidate, no label."""
    features = {
        feature_name(role, field): tf.fill(
            [*([1] if role in OF_ROWS else [1, 1]), *field.shape],
            tf.cast(FIRST_ID if field.is_categorical else 0, field.dtype),
        )
        for role in PREFIX
        for field in schema.with_role(role)
    }
    masks = {PREFIX[role] + "mask": tf.constant([[True]]) for role in (HISTORY, CANDIDATE)}
    return {**features, **masks}


def sample_weights(features: Mapping[str, tf.Tensor]) -> tf.Tensor | None:
    """Weights of the candidates' losses, float32 [users, candidates]: of the data and of `fit`; None for all 1."""
    weights = features.get(SAMPLE_WEIGHT)
    stored = features.get(PREFIX[CANDIDATE] + STORED_WEIGHT)
    if stored is None:
        return weights
    stored = tf.cast(stored, tf.float32) / MILLIONTHS
    return stored if weights is None else stored * tf.cast(weights, tf.float32)


def _with_class_weights(features, class_weights):
    """A batch whose samples have the weights of their classes too."""
    parts = []
    for part in parts_of(features):
        ignored, clicked = class_weights
        weight = tf.where(part[LABEL] > 0, float(clicked), float(ignored))
        own = part.get(SAMPLE_WEIGHT)
        parts.append(
            {**part, SAMPLE_WEIGHT: weight if own is None else weight * tf.cast(own, weight.dtype)}
        )
    return {PARTS: tuple(parts)} if PARTS in features else parts[0]


def _loss_kinds(encoder: InterestEncoder) -> list[str]:
    logits = [] if encoder.auxiliary_logits_weight is None else [AUXILIARY_LOGITS]
    return [*encoder.auxiliary_loss_names, *logits]


def _features(data: Any) -> dict[str, tf.Tensor]:
    """The features of what `fit` and `evaluate` get, with the label among them.

    Raises:
      ValueError: there is no label.
    """
    features, labels, weights = tf.keras.utils.unpack_x_y_sample_weight(data)
    features = dict(features) if labels is None else {**features, LABEL: labels}
    if weights is not None:
        features[SAMPLE_WEIGHT] = weights
    if LABEL not in parts_of(features)[0]:
        raise ValueError(
            f"expected labels, the feature {LABEL!r} or a dataset of (features, labels); got the "
            f"features {sorted(features)} alone."
        )
    return features


def _constructor_arguments(cls: type) -> list[str]:
    """Names of a constructor's arguments besides those that all models have."""
    common = ("schema", "config", "name")
    return [
        parameter.name
        for parameter in inspect.signature(cls).parameters.values()
        if parameter.name not in common
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]


def _as_argument(value: Any) -> Any:
    """A constructor's argument from its configuration: a layer, layers by name, or a plain value."""
    if not isinstance(value, Mapping):
        return _as_tuple(value)
    if "class_name" in value:
        return tf.keras.layers.deserialize(value)
    return {name: _as_argument(part) for name, part in value.items()}


def _as_tuple(value: Any) -> Any:
    """Sequences as tuples; JSON has lists alone."""
    return tuple(map(_as_tuple, value)) if isinstance(value, list | tuple) else value
