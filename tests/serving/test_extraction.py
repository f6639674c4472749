"""States of all users computed ahead: as the model scores, once each, and the same every time."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.inputs.pipeline import BatchOptions, PreparedData
from dgin_tf.models.encode import ENCODE
from dgin_tf.serving import extraction
from dgin_tf.stores.state_store import InMemoryStore
from dgin_tf.stores.values import StaleValueError
from tests.conformance.catalogue import BACKBONE
from tests.prepared import write_prepared

MAX_HISTORY, USERS = 23, 29


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data")
    write_prepared(path, users=USERS)
    return PreparedData(path)


def make_model(data):
    model = ENCODE(data.schema, BACKBONE, clusters=3, dim=2, short_events=5)
    model(next(iter(data.evaluation("test", BatchOptions(8, MAX_HISTORY)))))
    return model


@pytest.fixture(scope="module")
def model(data):
    return make_model(data)


def extract(model, data, store, **settings):
    return extraction.extract(model, data, store, MAX_HISTORY, batch_users=8, **settings)


@pytest.fixture(scope="module")
def store(model, data):
    store = InMemoryStore()
    assert extract(model, data, store).users == USERS
    return store


def load(store, user, model, data):
    version = extraction.weights_version(model)
    return extraction.load_state(store, user, version, data.schema.fingerprint())


def test_a_stored_state_scores_as_the_model_does(model, data, store):
    features = next(iter(data.evaluation("test", BatchOptions(USERS, MAX_HISTORY))))
    logits = model(features)["logits"]
    for row, user in enumerate(features["user_id"].numpy()):
        if features["cand_mask"][row, 0]:
            one = {name: value[row : row + 1] for name, value in features.items()}
            found = model.score(load(store, int(user), model, data), one)["logits"]
            np.testing.assert_allclose(found[0], logits[row], rtol=1e-4, atol=1e-5)


def test_extracted_twice_gives_the_same_bytes(model, data, store):
    again = InMemoryStore()
    extract(model, data, again)
    assert dict(again.items()) == dict(store.items())


def test_the_rate_is_that_behind_the_first_batch(model, data):
    store = InMemoryStore()
    found = extract(model, data, store)
    assert 0 < found.first.users < USERS
    assert 0 < found.first.seconds < found.seconds
    rest = found.seconds - found.first.seconds
    assert found.users_per_second == pytest.approx((USERS - found.first.users) / rest)
    again = extract(model, data, store)
    assert (again.first.users, again.users_per_second) == (0, 0)


def test_an_extraction_that_was_stopped_goes_on_and_ends_the_same(model, data, store):
    def stopped(items, total, text):
        assert (total, text) == (3 * USERS, "users")
        return itertools.islice(items, 20)

    again = InMemoryStore()
    first = extract(model, data, again, progress=stopped)
    second = extract(model, data, again)
    assert (first.users + second.users, second.kept) == (USERS, first.users)
    assert dict(again.items()) == dict(store.items())


def test_states_of_other_weights_are_stale_and_written_anew(model, data):
    other, store = make_model(data), InMemoryStore()
    for variable in other.trainable_variables:
        variable.assign(tf.random.normal(variable.shape))
    extract(model, data, store)
    with pytest.raises(StaleValueError):
        load(store, int(next(store.users())), other, data)
    assert extract(other, data, store).kept == 0


def test_somebody_unknown_has_no_state(model, data, store):
    assert load(store, 10**6, model, data) is None
