"""General search units: which few of a long history a candidate is about (SIM, section 3.2).

A unit prepares what it can before the candidate is known, and then finds. What is done with the
events that were found is a reader's work: SIM's exact search unit, TWIN's attention, a mean.
"""

from typing import Any, NamedTuple

import tensorflow as tf

from dgin_tf.layers.events import (
    EVENTS,
    History,
    State,
    Tables,
    Target,
    append_in_time,
    embed_ids,
    gather_features,
    store_events,
)
from dgin_tf.layers.interest_encoder import HistorySlice, InterestEncoder
from dgin_tf.ops.event_order import at_most
from dgin_tf.ops.fast.sets import SetsOfSize, put_back, split_by_size
from dgin_tf.schema import TIMESTAMP

FOUND, FOUND_MASK = "found", "found_mask"
_SIZES = (8,)  # of what sparse searches find


class Found(NamedTuple):
    """The events that a unit found for each candidate.

    Attributes:
      indices: their places in time, int32 [users, candidates, k]; best first, and real ones first.
      mask: True where something was found, bool [users, candidates, k].
      scores: the unit's own scores of them, [users, candidates, k], or None where it has none.
      outputs: named intermediates of the search, such as `auxiliary_logits` [users, candidates].
    """

    indices: tf.Tensor
    mask: tf.Tensor
    scores: tf.Tensor | None = None
    outputs: dict[str, tf.Tensor] | None = None


class FoundEvents(NamedTuple):
    """What a reader reads.

    Attributes:
      events: embeddings of the found events, zero where nothing was found,
        [users, candidates, k, dim].
      mask: bool [users, candidates, k].
      gaps: seconds from each event to the candidate, int64 [users, candidates, k], or None where
        times are not kept.
      found: what the unit gave.
      features: raw features of the found events by field name, each [users, candidates, k].
    """

    events: tf.Tensor
    mask: tf.Tensor
    gaps: tf.Tensor | None
    found: Found
    features: State | None = None


class SearchUnit(tf.keras.layers.Layer):
    """Base class of the units.

    Args:
      k: how many events to find at most; a shorter history gives as many as it has.

    Raises:
      ValueError: `k` is below 1.
    """

    def __init__(self, k: int = 50, **kwargs: Any):
        super().__init__(**kwargs)
        if k < 1:
            raise ValueError(f"k must be at least 1; got {k}.")
        self.k = k

    auxiliary_logits_weight: float | None = None
    """Weight of the loss on the `auxiliary_logits` of a unit that is trained on the labels."""

    auxiliary_loss_names: tuple[str, ...] = ()
    """Names of the losses that `prepare_with_losses` may give."""

    def prepare_with_losses(
        self, history: History, training: bool = False
    ) -> tuple[State, dict[str, tf.Tensor]]:
        """Prepares the search and computes losses of the unit's own, name -> [users]; none by default."""
        return self.prepare(history, training=training), {}

    def prepare(self, history: History, training: bool = False) -> State:
        """What the search needs of every event and no candidate changes, name -> [users, time, ...].

        Nothing by default.
        """
        del history, training
        return {}

    def search(self, state: State, target: Target, training: bool = False) -> Found:
        """Finds events.

        Args:
          state: `events` and `mask` of `store_events` and what `prepare` gave.
          target: the candidates.
          training: whether this is a step of training.
        """
        raise NotImplementedError

    def append(self, state: State, newer: State, tables: Tables) -> State:
        """Joins newer events, stored and prepared, to a state.

        Side by side along time by default; units whose preparation concerns all events together
        override it.

        Args:
          state: what was stored and prepared.
          newer: the same of newer events.
          tables: see `History.tables`.
        """
        del tables
        return append_in_time(state, newer)

    @property
    def history_slice(self) -> HistorySlice | None:
        """The part of a history that is searched; None for all of it."""
        return None

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "k": self.k}


@tf.keras.utils.register_keras_serializable("dgin_tf")
class SearchedInterest(InterestEncoder):
    """A search unit and a reader of what it finds.

    State: `events`, their ids [users, time], `mask`, and what the unit prepared.

    Args:
      unit: finds events for a candidate.
      reader: layer called as `reader(target, found_events, training=)`, which returns `interest`
        [users, candidates, dim] and named intermediates, the events on their last axis. Its
        `event_features`, where it has them, are names of raw features that it reads besides.
      times: whether times of events are kept, for readers that look at gaps.
      sparse: whether candidates for which nothing is found are left out of embedding and reading,
        all that the reader names being zero for them. For searches that seldom find something.
    """

    reads_ids = True

    def __init__(
        self,
        unit: SearchUnit,
        reader: tf.keras.layers.Layer,
        times: bool = False,
        sparse: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        deserialize = tf.keras.layers.deserialize
        self.unit = deserialize(unit) if isinstance(unit, dict) else unit
        self.reader = deserialize(reader) if isinstance(reader, dict) else reader
        self.times = times
        self.sparse = sparse
        self.event_features = getattr(self.reader, "event_features", ())
        self.auxiliary_logits_weight = self.unit.auxiliary_logits_weight
        self.auxiliary_loss_names = self.unit.auxiliary_loss_names

    def encode(self, history: History, training: bool = False) -> State:
        """Keeps the events' ids and prepares the search."""
        return self.encode_with_losses(history, training=training)[0]

    def encode_with_losses(
        self, history: History, training: bool = False
    ) -> tuple[State, dict[str, tf.Tensor]]:
        """Encodes; the losses are the unit's own."""
        times = (TIMESTAMP,) if self.times else ()
        prepared, losses = self.unit.prepare_with_losses(history, training=training)
        return {**store_events(history, (*times, *self.event_features)), **prepared}, losses

    def interest(self, state: State, target: Target, training: bool = False) -> State:
        """Finds events for each candidate and reads them.

        Returns:
          `interest` [users, candidates, dim], `found` int32 and `found_mask` bool
          [users, candidates, k], and what unit and reader name besides.

        Raises:
          ValueError: the candidates come without `Target.tables`.
        """
        found = self.unit.search(state, target, training=training)
        read = self._read_some if self.sparse else self._read
        features = gather_features(state[EVENTS], found.indices)
        gaps = None
        if self.times:
            now = target.features[TIMESTAMP][..., tf.newaxis]
            gaps = tf.where(found.mask, now - features[TIMESTAMP], 0)
        outputs = read(target, found, features, gaps, training)
        return {**outputs, **(found.outputs or {}), FOUND: found.indices, FOUND_MASK: found.mask}

    def _read(self, target, found, features, gaps, training) -> State:
        """Embeds the found events, of raw `features` [users, candidates, k], and reads them."""
        events = embed_ids(target.tables, features, self.compute_dtype, found.mask)
        found_events = FoundEvents(events, found.mask, gaps, found, features)
        return self.reader(target.embedding, found_events, training=training)

    def _read_some(self, target, found, features, gaps, training) -> State:
        """The same for candidates that find something, each as a user of its own."""
        parts: dict[str, list[tf.Tensor]] = {}
        split = split_by_size(found.mask, _SIZES)
        for sets in split:
            read = self._read(
                target._replace(embedding=sets.of_sets(target.embedding)[:, tf.newaxis]),
                Found(*(_members(sets, values) for values in found[:3])),
                {name: _members(sets, values) for name, values in features.items()},
                _members(sets, gaps),
                training,
            )
            for name, rows in read.items():
                rows = rows[:, 0] if name == "interest" else _widened(rows[:, 0], found.mask)
                parts.setdefault(name, []).append(rows)
        return {name: put_back(split, rows, found.mask) for name, rows in parts.items()}

    def update(self, state: State, history: History) -> State:
        """Appends newer events; equal to one `encode` of them all."""
        return self.unit.append(state, self.encode(history), history.tables)

    @property
    def history_slice(self) -> HistorySlice | None:
        """The part that the unit searches."""
        return self.unit.history_slice

    def get_config(self) -> dict[str, Any]:
        serialize = tf.keras.layers.serialize
        return {
            **super().get_config(),
            "unit": serialize(self.unit),
            "reader": serialize(self.reader),
            "times": self.times,
            "sparse": self.sparse,
        }


def _members(sets: SetsOfSize, values: tf.Tensor | None) -> tf.Tensor | None:
    """Values of the sets' events, each set being the only candidate of a user."""
    return None if values is None else sets.members(values)[:, tf.newaxis]


def _widened(rows: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """[..., size] -> [..., k], with zeros behind."""
    missing = tf.shape(mask)[-1] - tf.shape(rows)[-1]
    return tf.pad(rows, [[0, 0]] * (rows.shape.rank - 1) + [[0, missing]])


def best(scores: tf.Tensor, mask: tf.Tensor, k: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The k highest scores of the last axis among what is real, highest first.

    Of equal scores the more recent event comes first. People come back to the same few things, so
    that equal scores are common.

    Args:
      scores: [..., time], all above the lowest number of their type.
      mask: bool, broadcastable to `scores`.
      k: how many; all of them where time is shorter.

    Returns:
      Scores [..., k], their places int32 [..., k], and whether there is something, bool [..., k].
    """
    lowest = scores.dtype.min
    # Of equal ones top_k takes the first. Time runs backwards for it, which also spares it its worst
    # case where scores rise with time.
    backwards = tf.reverse(tf.where(mask, scores, lowest), [-1])
    values, places = tf.math.top_k(backwards, at_most(k, scores))
    return values, tf.shape(scores)[-1] - 1 - places, values > lowest
