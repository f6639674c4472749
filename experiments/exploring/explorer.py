"""Trained models that rank a case's candidates and draw what is behind one of them, each answer computed once."""

import dataclasses
import functools
import threading
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from dgin_tf.inputs.pipeline import PreparedData
from dgin_tf.inspection import plots, traces, views
from dgin_tf.models.base import CTRModel
from dgin_tf.schema import BEHAVIOR_TYPE, HISTORY, PREFIX
from experiments.exploring.histories import Case, Histories, Query, SplitUsers

_CASES, _RANKINGS, _PICTURES = 64, 512, 32  # answers that are kept
_TYPE = PREFIX[HISTORY] + BEHAVIOR_TYPE
# Fonts and caches of matplotlib are shared by all threads.
_DRAWING = threading.Lock()


class ExploredModel(NamedTuple):
    """A trained model, and the number of newest events that it reads."""

    model: CTRModel
    max_history: int


@dataclasses.dataclass(frozen=True)
class Ranking:
    """Candidates of a case under one model.

    Attributes:
      probabilities: of a click, [candidates].
      order: places of the candidates, the most probable first, [candidates].
      ranks: of each candidate, from 1, [candidates].
    """

    probabilities: np.ndarray
    order: np.ndarray
    ranks: np.ndarray


class Explorer:
    """Answers about users of a split under some models; may be asked by several threads.

    Args:
      data: the prepared data.
      models: name -> model.
      split: name of the split.

    Raises:
      ValueError: the data have no such split.
    """

    def __init__(self, data: PreparedData, models: Mapping[str, ExploredModel], split: str):
        self.data, self.models, self.split = data, dict(models), split
        self.users = SplitUsers(data, split)
        self.histories = Histories(data, self.users)
        # A model's variables and memos are not made for two threads; other models go on meanwhile.
        self._locks = {name: threading.Lock() for name in self.models}
        self.case = functools.lru_cache(_CASES)(self.histories.case)
        self.ranking = functools.lru_cache(_RANKINGS)(self._ranking)
        self.pictures = functools.lru_cache(_PICTURES)(self._pictures)
        self.png = functools.lru_cache(8 * _PICTURES)(self._png)

    def read_events(self, name: str, case: Case) -> np.ndarray:
        """Places of the events that a model reads, oldest first."""
        model, max_history = self.models[name]
        places = np.arange(len(case.events))[-max_history:]
        if not model.type_ids:
            return places
        is_read = np.isin(case.features[_TYPE][0, places], model.type_ids)
        newest = model.config.newest_events
        return places[is_read][-newest if newest else None :]

    def _ranking(self, name: str, query: Query) -> Ranking:
        case = self.case(query)
        if not case.candidates:
            empty = np.zeros(0, int)
            return Ranking(empty.astype(np.float32), empty, empty)
        batch = self._batch(name, case, slice(None))
        with self._locks[name], self.data.naming_damage():
            probabilities = traces.trace(self.models[name].model, batch).probabilities[0]
        order = np.argsort(-probabilities, kind="stable")
        ranks = np.empty(len(order), int)
        ranks[order] = np.arange(1, len(order) + 1)
        return Ranking(probabilities, order, ranks)

    def _pictures(self, name: str, query: Query, place: int) -> tuple[views.Picture, ...]:
        """What a model makes of the history for the candidate at a place; () where it names nothing."""
        case = self.case(query)
        if not len(self.read_events(name, case)):
            return ()
        batch = self._batch(name, case, slice(place, place + 1))
        with self._locks[name], _DRAWING:
            model = self.models[name].model
            return tuple(views.user_pictures(model, batch, self.histories.names))

    def _png(self, name: str, query: Query, place: int, picture: str) -> bytes | None:
        """A picture of `pictures` by its name, as a PNG file; None where there is none."""
        figures = {p.name: p.figure for p in self.pictures(name, query, place)}
        if picture not in figures:
            return None
        with _DRAWING:
            return plots.to_png(figures[picture])

    def _batch(self, name: str, case: Case, candidates: slice) -> dict[str, Any]:
        arrays = case.batch(self.read_events(name, case), candidates)
        return {feature: tf.constant(values) for feature, values in arrays.items()}
