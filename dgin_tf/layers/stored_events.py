"""Raw past events in a user's state: ids and times, from which any few are embedded when needed.

The state of a search-based model is mostly ids. They are a tenth of the size of embeddings, they do
not age when the tables are trained on, an index on disk can supply them, and a request embeds only
the events that its candidates find.
"""

from collections.abc import Mapping

import tensorflow as tf

from dgin_tf.layers.interest_encoder import Embed, FieldEmbedding, History, State
from dgin_tf.schema import HISTORY, PREFIX

TIMESTAMP = PREFIX[HISTORY] + "timestamp"
STORED_TIMESTAMP = "past_timestamp"
STORED_MASK = "past_mask"
_STORED = "past_"


def store_events(
    history: History, times: bool = False, event_features: tuple[str, ...] = ()
) -> State:
    """The raw events of a history as tensors of a state.

    Args:
      history: raw features [users, time].
      times: whether times are kept beside the ids that `History.embed` reads.
      event_features: names of other raw features to keep, such as `hist_behavior_type`.

    Returns:
      `past_<field>` [users, time] for every id that is embedded and every other one asked for, and
      `past_mask` bool [users, time].
    """
    names = [*history.embedded_features, *([TIMESTAMP] if times else []), *event_features]
    state = {_stored_name(name): history.features[name] for name in names}
    return {**state, STORED_MASK: history.mask}


def stored_features(state: State) -> State:
    """The raw features `hist_*` [users, time] that a state holds; masks are left out."""
    return {
        PREFIX[HISTORY] + name.removeprefix(_STORED): value
        for name, value in state.items()
        if name.startswith(_STORED) and name != STORED_MASK
    }


def stored_history(state: State, embed: Embed | None) -> History:
    """The history that a state holds, embedded when read."""
    features = stored_features(state)
    names = tuple(name for name in features if name != TIMESTAMP)
    return history_of(features, state[STORED_MASK], embed, names)


def history_of(
    features: Mapping[str, tf.Tensor],
    mask: tf.Tensor,
    embed: Embed | None,
    embedded_features: tuple[str, ...],
) -> History:
    """A history of raw features [users, time], embedded when read."""

    def events() -> tf.Tensor:
        if embed is None:
            raise ValueError("these events are ids; they need History.embed to be embedded.")
        is_by_field = isinstance(embed, FieldEmbedding)
        found = tf.concat(events_by_field(history), -1) if is_by_field else embed(features)
        return tf.where(mask[..., tf.newaxis], found, tf.zeros([], found.dtype))

    history = History(events, mask, features, embed=embed, embedded_features=embedded_features)
    return history


def searched_events(history: History) -> tf.Tensor:
    """Embeddings to be searched, [users, time, dim], without a gradient; those of padding mean nothing.

    A search leaves out what is masked, so that zeroing it first would be one more pass over the
    largest tensor of a step.
    """
    return history.once(
        "searched_events", lambda: tf.stop_gradient(tf.concat(events_by_field(history), axis=-1))
    )


def events_by_field(history: History) -> list[tf.Tensor]:
    """Embeddings of a history's events, field by field where they come from tables.

    Each of them has a gradient of its own, which need not be cut out of that of all fields.

    Returns:
      One or several [users, time, dim], side by side what `History.events` are; those of padding mean
      nothing.
    """
    embed = history.embed
    if not isinstance(embed, FieldEmbedding):
        return [history.events]
    return history.once("events_by_field", lambda: list(embed.by_field(history.features)))


def gather_events(state: State, indices: tf.Tensor) -> State:
    """Raw features of chosen events.

    Args:
      state: holds `past_*` [users, time].
      indices: places in time, int32 [users, ...].

    Returns:
      `hist_*` in the shape of `indices`.
    """
    return {
        name: tf.gather(value, indices, batch_dims=1)
        for name, value in stored_features(state).items()
    }


def embed_events_at(history: History, places: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Embeddings of a history's events at some places, without those of all others.

    Args:
      history: the events.
      places: places in time, int32 [users, ...].
      mask: True where a place holds an event, bool in the shape of `places`.

    Returns:
      [users, ..., dim]; zero where there is no event.

    Raises:
      ValueError: the history comes without `History.embed`.
    """
    if history.embed is None:
        raise ValueError("these events are ids; they need History.embed to be embedded.")
    # One event more, so that a time axis of no length can be read.
    ids = {
        name: tf.gather(tf.pad(history.features[name], [[0, 0], [0, 1]]), places, batch_dims=1)
        for name in history.embedded_features
    }
    found = history.embed(ids)
    return tf.where(mask[..., tf.newaxis], found, tf.zeros([], found.dtype))


def append_events(state: State, newer: State) -> State:
    """Joins the per-event tensors [users, time, ...] of two states along time."""
    return {name: tf.concat([value, newer[name]], axis=1) for name, value in state.items()}


def _stored_name(feature: str) -> str:
    return _STORED + feature.removeprefix(PREFIX[HISTORY])
