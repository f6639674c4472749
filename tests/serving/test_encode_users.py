"""States of all users computed ahead: as the model scores, once each, and the same every time."""

import dataclasses
import functools
import itertools

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.inputs.pipeline import BatchOptions, PreparedData
from dgin_tf.models import registry
from dgin_tf.records import Manifest
from dgin_tf.serving.center.progress import Progress
from dgin_tf.serving.center.user_states import UserStates
from dgin_tf.serving.encode_users import (
    UserStateSink,
    encode_users,
    model_encoder,
    model_metadata,
)
from dgin_tf.serving.export.signatures import ENCODE_USER
from dgin_tf.serving.export.state_names import unflatten_state
from dgin_tf.serving.export.versions import state_namespace
from dgin_tf.serving.online.bundle_model import BundleModel
from dgin_tf.serving.online.ranker import Ranker
from dgin_tf.serving.user_records import RecordUsers
from dgin_tf.stores.state_store import InMemoryStore
from dgin_tf.stores.values import StaleValueError
from tests.conformance.catalogue import BACKBONE
from tests.prepared import write_prepared
from tests.serving import exported

MAX_HISTORY, USERS = 23, 29
CANDIDATES = [5, 40, 77]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data")
    write_prepared(path, users=USERS)
    return PreparedData(path)


def make_model(data):
    settings = {"clusters": 3, "dim": 2, "short_events": 5}
    model = registry.make_model("encode", data.schema, BACKBONE, **settings)
    model(next(iter(data.evaluation("test", BatchOptions(8, MAX_HISTORY)))))
    return model


@pytest.fixture(scope="module")
def model(data):
    return make_model(data)


def encode_all(model, data, store, **settings):
    metadata = model_metadata(model, "interests")
    users = RecordUsers(data, metadata, MAX_HISTORY)
    sink = UserStateSink(UserStates(store, metadata))
    return encode_users(users, model_encoder(model), sink, batch_users=8, **settings)


@pytest.fixture(scope="module")
def store(model, data):
    store = InMemoryStore()
    assert encode_all(model, data, store).users == USERS
    return store


def values(store):
    return dict(store.scoped("interests.weights").items())


def load(store, user, model):
    (state,) = UserStates(store, model_metadata(model, "interests")).read([user])
    return state and {name: array[np.newaxis] for name, array in state.arrays.items()}


def test_a_stored_state_scores_as_the_model_does(model, data, store):
    features = next(iter(data.evaluation("test", BatchOptions(USERS, MAX_HISTORY))))
    logits = model(features)["logits"]
    for row, user in enumerate(features["user_id"].numpy()):
        if features["cand_mask"][row, 0]:
            one = {name: value[row : row + 1] for name, value in features.items()}
            state = unflatten_state(load(store, int(user), model))
            scores = model.score(state, one)["logits"]
            np.testing.assert_allclose(scores[0], logits[row], rtol=1e-4, atol=1e-5)


def test_encoding_twice_gives_the_same_bytes(model, data, store):
    again = InMemoryStore()
    encode_all(model, data, again)
    assert values(again) == values(store)


def test_the_rate_is_that_behind_the_first_batch(model, data):
    store = InMemoryStore()
    report = encode_all(model, data, store)
    assert 0 < report.first.users < USERS
    assert 0 < report.first.seconds < report.seconds
    rest = report.seconds - report.first.seconds
    assert report.users_per_second == pytest.approx((USERS - report.first.users) / rest)
    again = encode_all(model, data, store)
    assert (again.first.users, again.users_per_second) == (0, 0)


def test_a_job_that_was_stopped_continues_and_ends_the_same(model, data, store):
    def stopped(items, total, text):
        assert (total, text) == (USERS, "users")
        return itertools.islice(items, 20)

    again = InMemoryStore()
    first = encode_all(model, data, again, progress=stopped)
    second = encode_all(model, data, again)
    assert (first.users + second.users, second.current) == (USERS, first.users)
    assert values(again) == values(store)


def test_states_of_other_weights_are_stale_and_written_anew(model, data):
    other, store = make_model(data), InMemoryStore()
    for variable in other.trainable_variables:
        variable.assign(tf.random.normal(variable.shape))
    encode_all(model, data, store)
    with pytest.raises(StaleValueError):
        load(store, int(next(store.scoped("interests.weights").users())), other)
    assert encode_all(other, data, store).current == 0


def test_somebody_unknown_has_no_state(model, data, store):
    assert load(store, 10**6, model) is None


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """An exported ENCODE, with the data that it was trained on."""
    data = exported.make_data(tmp_path_factory.mktemp("served") / "data")
    return exported.export(
        "encode",
        data,
        tmp_path_factory.mktemp("bundle"),
        user_fields=("user_id",),
        clusters=3,
        dim=2,
        short_events=5,
    )


def encode_for(bundle, store, data=None, **settings):
    """Encodes the users of the data that a bundle was trained on."""
    model, data = BundleModel(bundle.version), data or PreparedData(bundle.data_dir)
    users = RecordUsers(data, model.metadata, model.metadata["max_history"])
    sink = UserStateSink(UserStates(store, model.metadata))
    encode = functools.partial(model.run, ENCODE_USER)
    return encode_users(users, encode, sink, batch_users=8, **settings)


@pytest.fixture(scope="module")
def states(served):
    store = InMemoryStore()
    assert encode_for(served, store).users == exported.USERS
    return store


def histories(bundle):
    """User id -> the newest history of the test split."""
    whole = PreparedData(bundle.data_dir).evaluation("test", BatchOptions(exported.USERS * 2, 47))
    (batch,) = whole.take(1)
    for row, mask in enumerate(batch["hist_mask"].numpy()):  # the last cut of a user comes last
        history = {f: batch[f"hist_{f}"].numpy()[row][mask] for f in ("item_id", "timestamp")}
        yield int(batch["user_id"][row]), history


def test_the_ranker_scores_encoded_states_as_it_scores_histories(served, states):
    ranker = Ranker(served.version, states=states)
    newest = dict(histories(served))
    assert len(newest) == exported.USERS
    for user, history in newest.items():
        reference = ranker.rank(history, CANDIDATES, {"user_id": user})
        scores = ranker.rank(user, CANDIDATES)
        np.testing.assert_allclose(scores, reference, rtol=0, atol=1e-5)


def test_an_encoded_state_includes_all_up_to_its_newest_event(served, states):
    states_of = UserStates(states, BundleModel(served.version).metadata)
    for user, history in dict(histories(served)).items():
        newest = int(history["timestamp"][-1])
        assert states_of.read([user])[0].progress == Progress(0, newest, newest)


def test_a_job_for_a_bundle_continues_and_gives_the_same_bytes(served, states):
    again, (name,) = InMemoryStore(), {state_namespace(BundleModel(served.version).metadata)}
    first = encode_for(served, again, progress=lambda items, *_: itertools.islice(items, 11))
    second = encode_for(served, again)
    assert (first.users, second.users, second.current) == (11, exported.USERS - 11, 11)
    assert dict(again.scoped(name).items()) == dict(states.scoped(name).items())


def test_who_did_something_since_is_encoded_anew_and_who_follows_a_stream_is_not(served, states):
    states_of = UserStates(InMemoryStore(), BundleModel(served.version).metadata)
    states_of.store.put_many(
        dict(UserStates(states, BundleModel(served.version).metadata).store.items())
    )
    older, streamed = sorted(states_of.store.users())[:2]
    for user, progress in ((older, Progress(newest=5, included_until=5)), (streamed, Progress(9))):
        (state,) = states_of.read([user])
        assert states_of.swap({user: dataclasses.replace(state, progress=progress)})
    before = dict(states_of.store.items())
    assert encode_for(served, states_of.store).users == 1
    after = dict(states_of.store.items())
    assert {user for user in after if after[user] != before[user]} == {older}


def test_states_of_a_bundle_of_other_weights_are_refused_and_written_anew(served, tmp_path):
    data, store = PreparedData(served.data_dir), InMemoryStore()
    other = exported.export(
        "encode", data, tmp_path, user_fields=("user_id",), clusters=3, dim=5, short_events=5
    )
    encode_for(other, store)
    user = next(iter(UserStates(store, BundleModel(other.version).metadata).store.users()))
    with pytest.raises(ValueError, match="belongs to model version 'encode.1."):
        Ranker(served.version, states=store).rank(user, CANDIDATES)
    assert encode_for(served, store).current == 0
    assert np.all(np.isfinite(Ranker(served.version, states=store).rank(user, CANDIDATES)))


def test_data_of_another_schema_are_refused(served, tmp_path):
    schema = dataclasses.replace(write_prepared(tmp_path, users=3), max_history=48)
    schema.save(tmp_path)
    manifest = Manifest(schema.fingerprint(), {}, whole_histories=())
    manifest.save(tmp_path)
    with pytest.raises(ValueError, match="encode users of the data that the model was trained on"):
        encode_for(served, InMemoryStore(), PreparedData(tmp_path))


def test_a_bundle_with_groups_is_refused(served, tmp_path):
    data = PreparedData(served.data_dir)
    dgin = exported.export("dgin", data, tmp_path, key="category_id", embedding_dim=4)
    with pytest.raises(ValueError, match="'dgin' has groups"):
        encode_for(dgin, InMemoryStore())
