"""The contract of every paper's contribution: an encoder of a user's interests.

Serving splits a model where the candidate enters: `encode` depends on the user alone and its result is
stored, `interest` runs at every request. Called as a layer, `encoder(target, history)`, an encoder does
both.
"""

from typing import Any, NamedTuple

import tensorflow as tf

from dgin_tf.layers.configured import ConfiguredLayer
from dgin_tf.layers.events import History, State, Target, embed_history, mask_padding

INTEREST, AUXILIARY_LOGITS = "interest", "auxiliary_logits"
STATE, LOSSES = "state", "losses"


class HistorySlice(NamedTuple):
    """The part of a history that scores depend on, where it is not the whole.

    Attributes:
      key: attribute that candidates search by; events under other values do not matter.
      newest: how many of the newest events matter whatever their key.
      per_key: how many of the newest events under a key suffice.
    """

    key: str
    newest: int
    per_key: int


class InterestEncoder(ConfiguredLayer):
    """Base class of the interest encoders; subclasses override `encode` and `interest`.

    The state is a dict of tensors, or of such dicts, whose first axis is the user; it holds nothing that
    depends on a candidate. An empty history gives an interest of exactly zero.

    Example:

      >>> from dgin_tf.layers.target_attention import AttendedHistory
      >>> encoder = AttendedHistory()  # one of the subclasses
      >>> events, mask = tf.random.normal([2, 5, 8]), tf.ones([2, 5], tf.bool)
      >>> encoder(tf.random.normal([2, 3, 8]), (events, mask))["interest"].shape
      TensorShape([2, 3, 8])
    """

    def call(self, target: Target, history: History, training: bool = False) -> dict[str, Any]:
        """The interest of a history in candidates: `interest(encode(history), target)`.

        Args:
          target: candidates, or their embeddings [users, candidates, dim] alone.
          history: past events, or their embeddings [users, time, dim], alone where all are real, else
            in a pair with the mask.
          training: whether this is a step of training.

        Returns:
          What `interest` gives, and under `state` and `losses` what `encode_with_losses` gave.
        """
        target, history = as_inputs(target, history, self.compute_dtype)
        state, losses = self.encode_with_losses(self.prepare(history), training=training)
        outputs = self.interest(state, target, training=training)
        return {**outputs, STATE: state, LOSSES: losses}

    def prepare(self, history: History) -> History:
        """The history as `encode` takes it: embedded, or ids where the encoder embeds by itself."""
        if not self.reads_ids:
            return embed_history(history, self.compute_dtype)
        return history._replace(events=None, fields=()) if history.tables else history

    def encode(self, history: History, training: bool = False) -> State:
        """Folds a history into the state that serving stores.

        Args:
          history: what `prepare` gave.
          training: whether this is a step of training.

        Returns:
          Name -> tensor [users, ...], or nested.
        """
        raise NotImplementedError(f"{type(self).__name__} does not encode histories.")

    def encode_with_losses(
        self, history: History, training: bool = False
    ) -> tuple[State, dict[str, tf.Tensor]]:
        """Encodes a history and computes the losses that share tensors with the encoding.

        Returns:
          The state, and losses by name, each [users] and already weighted; none by default, nor where the
          history lacks what a loss needs.
        """
        return self.encode(history, training=training), {}

    def interest(self, state: State, target: Target, training: bool = False) -> State:
        """The interest of a state in each candidate.

        Returns:
          `interest` [users, candidates, dim] and named intermediates such as `attention`
          [users, candidates, time]. Logits of a network of its own, `auxiliary_logits`
          [users, candidates], are trained on the clicks with `auxiliary_logits_weight`.
        """
        raise NotImplementedError(f"{type(self).__name__} gives no interest.")

    def update(self, state: State, history: History) -> State:
        """Folds newer events into a state; only encoders whose state is incremental have it."""
        raise NotImplementedError(f"{type(self).__name__} cannot fold events into a stored state.")

    reads_ids: bool = False
    """Whether the encoder reads ids and itself embeds those that it needs."""

    times: bool = False
    """Whether the state keeps the times of events."""

    event_features: tuple[str, ...] = ()
    """Names of raw features of events that the encoder reads beside those with tables and times."""

    auxiliary_loss_names: tuple[str, ...] = ()
    """Names of the losses that `encode_with_losses` may give."""

    auxiliary_logits_weight: float | None = None
    """Weight of the target's loss on `auxiliary_logits`, where `interest` gives such logits."""

    @property
    def history_slice(self) -> HistorySlice | None:
        """The part of a history that the interest depends on; None for all of it."""
        return None

    @property
    def is_incremental(self) -> bool:
        """True where `update` exists, so that a stored state can follow a stream of events."""
        return type(self).update is not InterestEncoder.update


def as_inputs(target: Any, history: Any, dtype: tf.DType | str) -> tuple[Target, History]:
    """Target and history of a layer's call, in tensors of the layer's type.

    Args:
      target: a `Target`, or embeddings [users, candidates, dim] of candidates that are all real.
      history: a `History`, a pair of embeddings [users, time, dim] and mask, or embeddings of events
        that are all real; a mask of None stands for the same.
      dtype: of embeddings.

    Raises:
      ValueError: an argument is none of these, or shapes do not match.
    """
    if not isinstance(target, Target):
        embedding = tf.cast(target, dtype)
        target = Target(embedding, tf.ones(tf.shape(embedding)[:2], tf.bool))
    target = target._replace(
        embedding=tf.cast(target.embedding, dtype), mask=tf.cast(target.mask, tf.bool)
    )
    if not isinstance(history, History):
        is_pair = isinstance(history, tuple | list) and len(history) == 2
        if not is_pair and not hasattr(history, "shape"):
            raise ValueError(
                "history must be a History, or embedded events [users, time, dim], alone or in a pair "
                f"with their mask [users, time]; got {type(history).__name__}."
            )
        events, mask = history if is_pair else (history, None)
        events = tf.cast(events, dtype)
        mask = tf.cast(tf.ones(tf.shape(events)[:2]) if mask is None else mask, tf.bool)
        _check_shapes(target, events, mask)
        return target, History(mask_padding(events, mask), mask)
    events, fields, negatives = tf.nest.map_structure(
        lambda part: None if part is None else tf.cast(part, dtype),
        (history.events, history.fields, history.negatives),
    )
    mask = tf.cast(history.mask, tf.bool)
    _check_shapes(target, events, mask)
    features = {name: tf.convert_to_tensor(value) for name, value in history.features.items()}
    return target, history._replace(
        events=events, mask=mask, features=features, fields=fields, negatives=negatives
    )


def _check_shapes(target: Target, events: tf.Tensor | None, mask: tf.Tensor) -> None:
    """Raises ValueError unless candidates, events and mask are of the same users and times."""
    users = tf.TensorShape([mask.shape[0]]) if mask.shape.rank else tf.TensorShape([None])
    fits = target.embedding.shape.is_compatible_with(users.concatenate([None, None]))
    fits = fits and mask.shape.is_compatible_with([None, None])
    if events is not None:
        fits = fits and events.shape.is_compatible_with(mask.shape.concatenate([None]))
    if not fits:
        raise ValueError(
            "expected embeddings [users, candidates, dim] and [users, time, dim] and a mask "
            f"[users, time]; got {target.embedding.shape}, {None if events is None else events.shape} "
            f"and {mask.shape}."
        )
