"""General search units: the few events of a long history that a candidate is about (SIM, section 3.2).

A unit prepares what it can before the candidate is known, and then searches. Reading the events that it
retrieves is the work of a reader: SIM's exact search unit, TWIN's attention, a mean.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from dgin_tf.layers.configured import ConfiguredLayer, as_layer
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
from dgin_tf.layers.interest_encoder import INTEREST, HistorySlice, InterestEncoder, as_inputs
from dgin_tf.ops import sampling
from dgin_tf.ops.event_order import at_most
from dgin_tf.ops.fast.sets import SetsOfSize, put_back, split_by_size
from dgin_tf.schema import CANDIDATE, TIMESTAMP, check_features, check_positive

TOPK_INDICES, TOPK_MASK = "topk_indices", "topk_mask"
_SIZES = (8,)  # events that a sparse search retrieves
_STEPS = 1 << 24


class SearchResult(NamedTuple):
    """The events that a unit retrieves for each candidate.

    Attributes:
      topk_indices: their places in time, int32 [users, candidates, k]; best first, real ones first.
      mask: True where there is an event, bool [users, candidates, k].
      scores: the unit's own scores of them, [users, candidates, k], or None where it has none.
      outputs: named intermediates of the search, such as `auxiliary_logits` [users, candidates].
    """

    topk_indices: tf.Tensor
    mask: tf.Tensor
    scores: tf.Tensor | None = None
    outputs: dict[str, tf.Tensor] | None = None


class RetrievedEvents(NamedTuple):
    """The input of a reader.

    Attributes:
      events: embeddings of the retrieved events, zero where there is none,
        [users, candidates, k, dim].
      mask: bool [users, candidates, k].
      gaps: seconds from each event to the candidate, int64 [users, candidates, k], or None where
        the state has no times.
      features: raw features of the events by field name, each [users, candidates, k].
      search: the unit's result, or None where no unit searched.
    """

    events: tf.Tensor
    mask: tf.Tensor
    gaps: tf.Tensor | None = None
    features: State | None = None
    search: SearchResult | None = None


class SearchUnit(ConfiguredLayer):
    """Base class of the units; subclasses override `search`, and `prepare` where they can.

    Example:

      >>> class NewestSearch(SearchUnit):
      ...     def search(self, state, target, training=False):
      ...         shape = [*target.embedding.shape[:2], *state["mask"].shape[1:]]
      ...         return top_events(tf.zeros(shape), state["mask"][:, tf.newaxis], self.k)
      >>> target, events = tf.random.normal([1, 2, 8]), tf.random.normal([1, 100, 8])
      >>> NewestSearch(k=3)(target, (events, tf.fill([1, 100], True))).topk_indices.numpy().tolist()
      [[[99, 98, 97], [99, 98, 97]]]

    Args:
      k: how many events to retrieve at most; a shorter history gives as many as it has.

    Raises:
      ValueError: `k` is below 1.
    """

    def __init__(self, k: int = 50, **kwargs: Any):
        super().__init__(**kwargs)
        check_positive(k=k)
        self.k = k

    auxiliary_logits_weight: float | None = None
    """Weight of the loss on the `auxiliary_logits` of a unit that is trained on the labels."""

    auxiliary_loss_names: tuple[str, ...] = ()
    """Names of the losses that `prepare_with_losses` may give."""

    fields: Sequence[str] = ()
    """Names of the raw features of events that the unit searches by, beside embeddings."""

    def call(
        self,
        target: Target | tf.Tensor,
        history: History | tuple[tf.Tensor, tf.Tensor],
        training: bool = False,
    ) -> SearchResult:
        """Prepares a history and searches it for candidates.

        Args:
          target: candidates, or their embeddings [users, candidates, dim] alone.
          history: past events, or their embeddings [users, time, dim], alone where all are real, else
            in a pair with the mask.
          training: whether this is a step of training.
        """
        target, history = as_inputs(target, history, self.compute_dtype)
        index = self.prepare(history, training=training)
        state = {**store_events(history, tuple(self.fields)), **index}
        return self.search(state, target, training=training)

    def prepare_with_losses(
        self, history: History, training: bool = False
    ) -> tuple[State, dict[str, tf.Tensor]]:
        """Prepares the search and computes losses of the unit's own, name -> [users]; none by default."""
        return self.prepare(history, training=training), {}

    def prepare(self, history: History, training: bool = False) -> State:
        """The index: all that a search needs of every event and no candidate changes.

        Returns:
          Name -> tensor [users, time, ...]; nothing by default.
        """
        return {}

    def search(self, state: State, target: Target, training: bool = False) -> SearchResult:
        """Retrieves events.

        Args:
          state: `events` and `mask` of `store_events` and what `prepare` gave.
          target: the candidates.
          training: whether this is a step of training.
        """
        raise NotImplementedError(f"{type(self).__name__} does not search.")

    def append(self, state: State, newer: State, tables: Tables) -> State:
        """Joins newer events, stored and prepared, to a state.

        Side by side along time by default; units whose preparation concerns all events together
        override it.

        Args:
          state: what was stored and prepared.
          newer: the same of newer events.
          tables: see `History.tables`.
        """
        return append_in_time(state, newer)

    @property
    def history_slice(self) -> HistorySlice | None:
        """The part of a history that is searched; None for all of it."""
        return None


class SearchedInterest(InterestEncoder):
    """A search unit and a reader of the events that it retrieves.

    State: `events`, their ids [users, time], `mask`, and the unit's index.

    Example:

      >>> from dgin_tf.layers.search.readers import ExactSearchUnit
      >>> from dgin_tf.layers.search.soft import SoftSearch
      >>> encoder = SearchedInterest(SoftSearch(k=3), ExactSearchUnit())
      >>> target, events = tf.random.normal([2, 4, 8]), tf.random.normal([2, 100, 8])
      >>> encoder(target, (events, tf.fill([2, 100], True)))["interest"].shape
      TensorShape([2, 4, 16])

    Args:
      unit: retrieves events for a candidate.
      reader: layer called as `reader(target, retrieved_events, training=)`, which returns `interest`
        [users, candidates, dim] and named intermediates, the events on their last axis. Its
        `event_features`, where it has them, are names of raw features that it reads besides.
      times: whether times of events are stored, for readers that look at gaps.
      sparse: whether candidates without a retrieved event are left out of embedding and reading, all
        that the reader names being zero for them. For searches that seldom retrieve any.
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
        self.unit = as_layer(unit)
        self.reader = as_layer(reader)
        self.times = times
        self.sparse = sparse
        self.event_features = (*self.unit.fields, *getattr(self.reader, "event_features", ()))
        self.auxiliary_logits_weight = self.unit.auxiliary_logits_weight
        self.auxiliary_loss_names = self.unit.auxiliary_loss_names

    def encode(self, history: History, training: bool = False) -> State:
        """Stores the events' ids and prepares the search."""
        return {**self._store(history), **self.unit.prepare(history, training=training)}

    def encode_with_losses(
        self, history: History, training: bool = False
    ) -> tuple[State, dict[str, tf.Tensor]]:
        """Encodes; the losses are the unit's own."""
        index, losses = self.unit.prepare_with_losses(history, training=training)
        return {**self._store(history), **index}, losses

    def _store(self, history: History) -> State:
        times = (TIMESTAMP,) if self.times else ()
        return store_events(history, (*times, *self.event_features))

    def interest(self, state: State, target: Target, training: bool = False) -> State:
        """Retrieves events for each candidate and reads them.

        Returns:
          `interest` [users, candidates, dim], `topk_indices` int32 and `topk_mask` bool
          [users, candidates, k], and what unit and reader name besides.

        Raises:
          ValueError: the candidates come without `Target.tables`.
        """
        result = self.unit.search(state, target, training=training)
        features = gather_features(state[EVENTS], result.topk_indices)
        gaps = None
        if self.times:
            check_features(target.features, [TIMESTAMP], CANDIDATE)
            now = target.features[TIMESTAMP][..., tf.newaxis]
            gaps = tf.where(result.mask, now - features[TIMESTAMP], 0)
        read_events = self._read_some if self.sparse else self._read
        return {
            **read_events(target, result, features, gaps, training),
            **(result.outputs or {}),
            TOPK_INDICES: result.topk_indices,
            TOPK_MASK: result.mask,
        }

    def _read(self, target, result, features, gaps, training) -> State:
        """Embeds the retrieved events, of raw `features` [users, candidates, k], and reads them."""
        events = embed_ids(target.tables, features, self.compute_dtype, result.mask)
        retrieval = RetrievedEvents(events, result.mask, gaps, features, result)
        return self.reader(target.embedding, retrieval, training=training)

    def _read_some(self, target, result, features, gaps, training) -> State:
        """Reads candidates that have retrieved events alone, each as a user of its own."""
        parts: dict[str, list[tf.Tensor]] = {}
        split = split_by_size(result.mask, _SIZES)
        for sets in split:
            outputs = self._read(
                target._replace(embedding=sets.of_sets(target.embedding)[:, tf.newaxis]),
                SearchResult(*(_members(sets, values) for values in result[:3])),
                {name: _members(sets, values) for name, values in features.items()},
                _members(sets, gaps),
                training,
            )
            for name, rows in outputs.items():
                # One candidate a user here; what has events on its last axis is as wide as the class.
                rows = rows[:, 0]
                if name != INTEREST:
                    missing = tf.shape(result.mask)[-1] - tf.shape(rows)[-1]
                    rows = tf.pad(rows, [[0, 0]] * (rows.shape.rank - 1) + [[0, missing]])
                parts.setdefault(name, []).append(rows)
        return {name: put_back(split, rows, result.mask) for name, rows in parts.items()}

    def update(self, state: State, history: History) -> State:
        """Appends newer events; equal to one `encode` of them all."""
        return self.unit.append(state, self.encode(history), history.tables)

    @property
    def history_slice(self) -> HistorySlice | None:
        """The part that the unit searches."""
        return self.unit.history_slice


def _members(sets: SetsOfSize, values: tf.Tensor | None) -> tf.Tensor | None:
    """Values of the sets' events, each set being the only candidate of a user."""
    return None if values is None else sets.members(values)[:, tf.newaxis]


def top_events(scores: tf.Tensor, mask: tf.Tensor, k: int) -> SearchResult:
    """The k highest scores of the last axis among what is real, highest first.

    Of equal scores the more recent event comes first. Users come back to the same few items, so that
    equal scores are common. No gradient passes through the choice.

    Args:
      scores: [..., time], all above the lowest number of their type.
      mask: bool, broadcastable to `scores`.
      k: how many; all of them where time is shorter.

    Returns:
      Places, mask and scores, each [..., k].
    """
    lowest = scores.dtype.min
    # Of equal ones top_k takes the first. Time runs backwards for it, which also spares it its worst
    # case where scores rise with time.
    backwards = tf.reverse(tf.where(mask, tf.stop_gradient(scores), lowest), [-1])
    values, places = tf.math.top_k(backwards, at_most(k, scores))
    return SearchResult(tf.shape(scores)[-1] - 1 - places, values > lowest, values)


def add_step_counter(unit: SearchUnit) -> tf.Variable:
    """A weight that counts a unit's steps of training, saved with the others; see `draw`."""
    aggregation = tf.VariableAggregation.ONLY_FIRST_REPLICA
    return unit.add_weight(
        "step", [], tf.int64, initializer="zeros", trainable=False, aggregation=aggregation
    )


def draw(step: tf.Variable, ids: Sequence[tf.Tensor], seed: int) -> tf.Tensor:
    """Uniform numbers in [0, 1), hashed from a step counter and ids.

    A run that is resumed draws what the uninterrupted one draws, since the counter is restored with the
    weights; so do two replicas and one device, since nothing depends on a place in the batch.

    Args:
      step: of `add_step_counter`; counts on.
      ids: integers that broadcast against each other.
      seed: of the draws.
    """
    number = tf.cast(step % _STEPS, tf.int32)
    step.assign_add(1)
    return sampling.uniform([number, *ids], seed)
