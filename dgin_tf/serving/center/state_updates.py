"""Runs `encode_user` and `update_user` of an exported bundle for many users at once.

The bundle is loaded by TensorFlow's C++ loader, as TF Serving does, into a session of one thread:
against `tf.saved_model.load` that takes a third of the time, and every call two thirds.
"""

import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from dgin_tf.records import Arrays, load_catalogue, unknown_value
from dgin_tf.schema import HISTORY, ITEM, UNKNOWN_ID, USER, Field, Schema, feature_name
from dgin_tf.serving.export.signatures import ENCODE_USER, UPDATE_USER
from dgin_tf.serving.export.versions import ASSETS, history_fields_read, open_bundle
from dgin_tf.serving.export.vocabularies import Vocabularies

_MAX_USERS = 256  # in one call: enough to amortize it, few enough for little padding

Events = Mapping[str, np.ndarray]


class StateUpdater:
    """The user side of an exported model whose state follows a stream of events.

    Args:
      bundle: base path of the exported versions, or the directory of one version.

    Raises:
      FileNotFoundError: there is no bundle.
      ValueError: the model's state is not incremental.
    """

    def __init__(self, bundle: str | os.PathLike):
        self.version_dir, self.metadata = open_bundle(bundle)
        check_is_incremental(self.metadata)
        self.schema = Schema.load(self.version_dir / ASSETS)
        assets = pathlib.Path(self.metadata["assets_dir"] or self.version_dir / ASSETS)
        self.vocabularies = Vocabularies(assets)
        self.catalogue = load_catalogue(assets)
        self._functions = _load(self.version_dir)
        signatures = self.metadata["signatures"]
        self._inputs = {
            name: {n: np.dtype(spec["dtype"]) for n, spec in signatures[name]["inputs"].items()}
            for name in (ENCODE_USER, UPDATE_USER)
        }
        state = signatures[UPDATE_USER]["outputs"]
        self._state = tuple(state)
        # States that grow with the history are not padded, since the padding would have to be removed.
        self._grows = any(None in spec["shape"][1:] for spec in state.values())
        self._history = {
            feature_name(HISTORY, field): field for field in self.schema.with_role(HISTORY)
        }
        self._empty: Arrays | None = None
        self._warm_up()

    @property
    def fields_read(self) -> set[str]:
        """Names of the history fields that the model reads."""
        return history_fields_read(self.metadata, self.schema)

    def empty(self, user_ids: Sequence[int]) -> list[Arrays]:
        """States of users without events.

        Args:
          user_ids: dense ids; other user fields are unknown.
        """
        users = {}
        for field in self.schema.user_fields:
            name = feature_name(USER, field)
            if name in self._inputs[ENCODE_USER]:
                is_id = field.name == "user_id"
                users[name] = np.array(
                    user_ids if is_id else [unknown_value(field)] * len(user_ids)
                )
        if users:
            return self.encode([{}] * len(user_ids), users)
        # Without user fields, the empty state is the same for all.
        if self._empty is None:
            (self._empty,) = self.encode([{}], {})
        return [self._empty] * len(user_ids)

    def encode(self, histories: Sequence[Events], users: Mapping[str, np.ndarray]) -> list[Arrays]:
        """States of whole histories.

        Args:
          histories: of each user, field -> values, oldest first, [events]; {} for no events.
          users: user feature -> one value for each user.
        """
        states: list[Arrays] = [{}] * len(histories)
        for rows in self._groups([_length(history) for history in histories]):
            inputs = self._padded(ENCODE_USER, [histories[row] for row in rows])
            for name in set(self._inputs[ENCODE_USER]) - set(inputs):
                inputs[name] = np.asarray(users[name])[rows]
            self._run(ENCODE_USER, inputs, rows, states)
        return states

    def update(self, states: Sequence[Arrays], events: Sequence[Events]) -> list[Arrays]:
        """States with newer events folded in.

        Args:
          states: of each user, name -> array.
          events: of each user, field -> values, oldest first, [events].
        """
        lengths = [_length(history) for history in events]
        growing = self._state if self._grows else ()
        shapes = [tuple(state[name].shape for name in growing) for state in states]
        results: list[Arrays] = [{}] * len(states)
        for rows in self._groups(lengths, shapes):
            inputs: dict[str, np.ndarray] = self._padded(UPDATE_USER, [events[row] for row in rows])
            for name in self._state:
                inputs[name] = np.stack([states[row][name] for row in rows])
            self._run(UPDATE_USER, inputs, rows, results)
        return results

    def _warm_up(self) -> None:
        """Calls both functions once: the first call optimizes them, which takes a second."""
        event = {field.name: np.array([UNKNOWN_ID]) for field in self.schema.stored_fields}
        self.update(self.empty([UNKNOWN_ID]), [event])

    def _groups(self, lengths: Sequence[int], shapes: Sequence[tuple] | None = None):
        """Rows for one call each: of similar lengths, and of equal ones where states grow."""
        groups: dict[Any, list[int]] = {}
        for row, length in enumerate(lengths):
            # Lengths up to the next power of two are padded to each other.
            size = length if self._grows else length.bit_length()
            groups.setdefault((size, shapes[row] if shapes else ()), []).append(row)
        for rows in groups.values():
            for start in range(0, len(rows), _MAX_USERS):
                yield rows[start : start + _MAX_USERS]

    def _padded(self, signature: str, events: Sequence[Events]) -> Arrays:
        """The signature's features of histories, [users, longest]."""
        # One column of padding for no events at all: not every operation takes an empty axis.
        shape = (len(events), max([1, *map(_length, events)]))
        features = {}
        for name, field in self._history.items():
            if name in self._inputs[signature]:
                value = np.zeros((*shape, *field.shape), field.dtype)
                for row, history in enumerate(events):
                    if history:
                        value[row, : _length(history)] = self._column(field, history)
                features[name] = value
        return features

    def _column(self, field: Field, history: Events) -> np.ndarray:
        """A field of events; the catalogue knows what events do not carry themselves."""
        if field.name in history:
            return history[field.name]
        attributes, items = self.catalogue[field.name], history[ITEM]
        return attributes[np.where(items < len(attributes), items, UNKNOWN_ID)]

    def _run(
        self, signature: str, inputs: Arrays, rows: Sequence[int], states: list[Arrays]
    ) -> None:
        dtypes = self._inputs[signature]
        arrays = self._functions[signature](
            {name: inputs[name].astype(dtype, copy=False) for name, dtype in dtypes.items()}
        )
        for place, row in enumerate(rows):
            states[row] = {name: arrays[name][place] for name in self._state}


def check_is_incremental(metadata: Mapping[str, Any]) -> None:
    """Raises ValueError unless the state of an exported version can follow a stream of events."""
    if UPDATE_USER not in metadata["signatures"]:
        raise ValueError(
            f"model {metadata['name']!r} has no {UPDATE_USER}, so that its state cannot "
            "follow a stream of events; export a model whose encoders have update, such as mimn."
        )


def _load(version_dir: pathlib.Path) -> dict[str, Callable[[Arrays], Arrays]]:
    """Signature -> function of arrays by name."""
    v1 = tf.compat.v1
    threads = v1.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
    # The signatures are called by feeds and fetches of the loaded graph.
    session = v1.Session(graph=tf.Graph(), config=threads)
    with session.graph.as_default():
        definitions = v1.saved_model.loader.load(
            session, [tf.saved_model.SERVING], os.fspath(version_dir)
        ).signature_def
    return {name: _function(session, definitions[name]) for name in (ENCODE_USER, UPDATE_USER)}


def _function(session: Any, definition: Any) -> Callable[[Arrays], Arrays]:
    inputs, outputs = list(definition.inputs), list(definition.outputs)
    call = session.make_callable(
        [definition.outputs[name].name for name in outputs],
        [definition.inputs[name].name for name in inputs],
    )

    def run(arrays: Arrays) -> Arrays:
        return dict(zip(outputs, call(*(arrays[name] for name in inputs)), strict=True))

    return run


def _length(history: Events) -> int:
    return len(next(iter(history.values()))) if history else 0
