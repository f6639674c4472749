"""Exports of models that read some behavior types: their signatures, and the states that follow events."""

import json

import numpy as np
import pytest

from dgin_tf.serving.center.dead_letters import DeadLetters
from dgin_tf.serving.center.events import BadEventError, EventParser
from dgin_tf.serving.center.interest_center import InterestCenter
from dgin_tf.serving.center.state_updates import StateUpdater
from dgin_tf.serving.center.user_states import UserStates
from dgin_tf.serving.online.ranker import Ranker, RawRanker
from dgin_tf.stores.state_store import InMemoryStore
from tests.conformance.catalogue import BACKBONE, BEHAVIOR_TYPES, CATALOGUE
from tests.serving.exported import (
    CANDIDATES,
    CUTS,
    USERS,
    export,
    make_data,
    score_in_a_fresh_process,
)

TOLERANCE = {"rtol": 0, "atol": 1e-6}
READ = BEHAVIOR_TYPES[::2]  # of three types, the first and the last
ITEMS = ["item 5", "item 9", "item 40", "item 7", "item 11"]
TYPES = [BEHAVIOR_TYPES[n] for n in (0, 1, 2, 1, 0)]
FAST = ("base_model",)


@pytest.fixture(scope="module")
def typed_data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("typed") / "data", BEHAVIOR_TYPES)


@pytest.fixture(scope="module")
def exports(typed_data, tmp_path_factory):
    """Entry of the catalogue -> its export, made when it is first asked for."""
    made = {}

    def export_of(entry):
        if entry not in made:
            name, settings = CATALOGUE[entry]
            folder = tmp_path_factory.mktemp("export")
            size = BACKBONE.embedding_dim
            more = {"embedding_dim": size, "behavior_types": READ, **settings}
            made[entry] = export(name, typed_data, folder, **more)
        return made[entry]

    return export_of


def entries(names, fast=FAST):
    return [pytest.param(n, marks=() if n in fast else pytest.mark.slow) for n in names]


@pytest.mark.parametrize("entry", entries(CATALOGUE))
def test_every_signature_scores_as_the_model_that_reads_some_types(entry, exports, tmp_path):
    exported = exports(entry)
    (scores,) = score_in_a_fresh_process([exported], tmp_path)
    reference = exported.expected
    batch = exported.batch
    assert exported.model.type_ids
    all_types = {**batch, "hist_behavior_type": np.full_like(batch["hist_behavior_type"], 2)}
    assert np.abs(exported.model.predict_on_batch(all_types) - reference).max() > 1e-3
    np.testing.assert_allclose(scores["whole"], reference, **TOLERANCE)
    np.testing.assert_allclose(scores["parts"], reference, **TOLERANCE)
    records = reference.reshape(USERS, CUTS * CANDIDATES)
    np.testing.assert_allclose(scores["examples"], records, **TOLERANCE)
    if exported.model.is_incremental:
        np.testing.assert_allclose(scores["updated"], reference, **TOLERANCE)


def line(sequence, item, **more):
    event = {"user_id": "u7", "sequence": sequence, "item_id": item, "timestamp": 1000 + sequence}
    return json.dumps({**event, **more}).encode()


@pytest.mark.parametrize("entry", entries(("base_model", "din", "mimn", "sdim", "gru4rec")))
def test_a_state_follows_the_events_of_its_types_alone(entry, exports, tmp_path):
    version, store = exports(entry).version, InMemoryStore()
    updater = StateUpdater(version)
    parser = EventParser(
        updater.schema, updater.catalogue, updater.vocabularies, fields_read=updater.fields_read
    )
    states = UserStates(store, updater.metadata)
    center = InterestCenter(updater, states, parser, DeadLetters(tmp_path / "letters"))
    for number, (item, name) in enumerate(zip(ITEMS, TYPES, strict=True), 1):
        center.apply([line(number, item, behavior_type=name)])
    assert center.counts.updates == len(ITEMS)
    ranker = RawRanker(Ranker(version, states=store))
    scores = ranker.rank("u7", ITEMS)
    times = [1001, 1002, 1003, 1004, 1005]
    history = {"item_id": ITEMS, "behavior_type": TYPES, "timestamp": times}
    np.testing.assert_allclose(scores, ranker.rank(history, ITEMS, {"user_id": "u7"}), atol=1e-5)
    read = [n for n, name in enumerate(TYPES) if name in READ]
    history = {name: [column[n] for n in read] for name, column in history.items()}
    np.testing.assert_allclose(scores, ranker.rank(history, ITEMS, {"user_id": "u7"}), atol=1e-5)
    with pytest.raises(BadEventError, match="behavior_type must be a text"):
        parser(line(6, ITEMS[0]))
