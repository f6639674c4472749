"""What every paper's contribution looks like from outside: an encoder of a person's interests.

Serving splits a model where the candidate enters. What depends on the user alone is `encode`d once
and kept; what a request pays for is `interest`. An encoder is the layer that knows how to do both.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar

import tensorflow as tf

AUXILIARY_LOGITS = "auxiliary_logits"
HISTORY_LENGTH = "history_length"  # of batches whose histories are no longer whole

State = dict[str, tf.Tensor]
Embed: TypeAlias = Callable[[Mapping[str, tf.Tensor]], tf.Tensor]
Made = TypeVar("Made")


class FieldEmbedding:
    """An `Embed` that also gives embeddings field by field.

    Attributes:
      by_field: from raw features, [...], to what each field is embedded as, each [..., dim of one].
    """

    def __init__(self, by_field: Callable[[Mapping[str, tf.Tensor]], Sequence[tf.Tensor]]):
        self.by_field = by_field

    def __call__(self, features: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """All fields side by side, [..., dim]."""
        return tf.concat(list(self.by_field(features)), axis=-1)


class History:
    """A batch of histories, oldest event first, embedded when somebody first reads the embeddings.

    Args:
      events: embeddings of the fields that events share with candidates, [users, time, dim]; zero
        where `mask` is False. Or a function that gives them, so that an encoder which needs only a
        few of many events never embeds the others.
      mask: True where the event is real, bool [users, time]. Padding may be on either side.
      features: raw history features of the batch by name (`hist_item_id`, `hist_timestamp`, ...),
        each [users, time].
      negatives: embeddings of one sampled non-click for every event, [users, time, dim], or a
        function that gives them, or None where the batch has none (serving, evaluation).
      padding: what the tables hold for an event of padding ids, [dim], or None where nobody embedded
        it. The authors' released code adds it to sums; nothing else looks at it.
      embed: embeds raw history features of any one shape, [...] -> [..., dim], or None.
      embedded_features: names of the raw features that `embed` reads.
    """

    def __init__(
        self,
        events: tf.Tensor | Callable[[], tf.Tensor],
        mask: tf.Tensor,
        features: Mapping[str, tf.Tensor],
        negatives: tf.Tensor | Callable[[], tf.Tensor] | None = None,
        padding: tf.Tensor | None = None,
        embed: Embed | None = None,
        embedded_features: tuple[str, ...] = (),
    ):
        self._events = events
        self._negatives = negatives
        self.mask = mask
        self.features = features
        self.padding = padding
        self.embed = embed
        self.embedded_features = embedded_features
        self._made: dict[str, Any] = {}

    def once(self, name: str, make: Callable[[], Made]) -> Made:
        """What is made of this history, made once: encoding it and its loss then share it.

        Args:
          name: of what is made.
          make: makes it.
        """
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]

    @property
    def events(self) -> tf.Tensor:
        """Embedded events, [users, time, dim]."""
        if callable(self._events):
            self._events = self._events()
        return self._events

    @property
    def negatives(self) -> tf.Tensor | None:
        """Embedded non-clicks, [users, time, dim], or None."""
        if callable(self._negatives):
            self._negatives = self._negatives()
        return self._negatives


class Target(NamedTuple):
    """A batch of embedded candidates.

    Attributes:
      embedding: e_a, the same fields in the same order as `History.events`, [users, candidates, dim].
      mask: True where the candidate is real, bool [users, candidates].
      features: raw candidate features by name, each [users, candidates].
      embed: embeds raw history features of any one shape, [...] -> [..., dim], or None; for encoders
        whose state holds ids.
    """

    embedding: tf.Tensor
    mask: tf.Tensor
    features: Mapping[str, tf.Tensor]
    embed: Embed | None = None


class Excerpt(NamedTuple):
    """The part of a history that scores depend on, where it is not the whole.

    Attributes:
      key: attribute that candidates search by; events under other values do not matter.
      newest: how many of the newest events matter whatever their key.
      per_key: how many of the newest events under a key suffice.
    """

    key: str
    newest: int
    per_key: int


class Kept(NamedTuple):
    """A state that is made of groups of events and kept, however long a history is.

    Attributes:
      prefix: with which the names of its tensors begin.
      key: interest key by which an index lists events.
      groups: how many of the most recent groups it is made of.
      events: how many of the newest events of each.
      statistics: which running statistics of each group, as `GroupStatistics` names them.
    """

    prefix: str
    key: str
    groups: int
    events: int
    statistics: tuple[str, ...]


class InterestEncoder(tf.keras.layers.Layer):
    """Base class of the interest encoders; subclasses override `encode` and `interest`.

    The state is a flat dict of tensors whose first axis is the user, and holds nothing that depends
    on a candidate. An empty history gives an interest of exactly zero.
    """

    def encode(self, history: History, training: bool = False) -> State:
        """Folds a history into the state that serving keeps.

        Returns:
          Name -> tensor [users, ...].
        """
        raise NotImplementedError

    def interest(self, state: State, target: Target, training: bool = False) -> State:
        """What the state means to each candidate.

        Returns:
          `interest` [users, candidates, dim] and named intermediates such as `attention`
          [users, candidates, time]. Logits of a network of its own, `auxiliary_logits`
          [users, candidates], are trained on the labels with `auxiliary_logits_weight`.
        """
        raise NotImplementedError

    def update(self, state: State, history: History) -> State:
        """Folds newer events into a state; only encoders whose state is incremental have it."""
        raise NotImplementedError(f"{type(self).__name__} cannot fold events into a stored state.")

    times: bool = False
    """Whether the state keeps the times of events."""

    event_features: tuple[str, ...] = ()
    """Names of raw history features that the encoder reads, the embedded ones and times left out."""

    auxiliary_loss_names: tuple[str, ...] = ()
    """Names of the losses that `auxiliary_losses` may give."""

    auxiliary_logits_weight: float | None = None
    """Weight of the target's loss on `auxiliary_logits`, where `interest` gives such logits."""

    def auxiliary_losses(self, state: State, history: History) -> dict[str, tf.Tensor]:
        """Losses of this encoder's own, name -> [users], each already weighted; none by default."""
        del state, history
        return {}

    @property
    def excerpt(self) -> Excerpt | None:
        """What of a history the interest depends on; None for all of it."""
        return None

    @property
    def is_incremental(self) -> bool:
        """Whether `update` exists, so that a stored state can follow a stream of events."""
        return type(self).update is not InterestEncoder.update
