"""The center: every event once, whatever is delivered how often and whatever fails."""

import numpy as np
import pytest

from dgin_tf.serving.center.interest_center import Limits, consume
from dgin_tf.serving.center.progress import Progress
from dgin_tf.serving.center.user_states import UserState, UserStates
from dgin_tf.stores.addresses import open_store
from dgin_tf.stores.state_store import InMemoryStore, StoreError
from dgin_tf.stores.values import DamagedValueError, encode_value
from tests.serving.center.following import (
    METADATA,
    Failing,
    event,
    halved,
    make_center,
    reasons,
    sums,
)

STREAM = [event(2, 1, 5), event(3, 1, 7), event(2, 2, 11), event(2, 3, 13), event(3, 2, 17)]
EXPECTED = {2: halved([5, 11, 13]), 3: halved([7, 17])}


@pytest.fixture
def store():
    return InMemoryStore()


@pytest.mark.parametrize("size", [1, 2, 5])
def test_any_batches_give_the_same_states(store, tmp_path, size):
    center = make_center(store, tmp_path)
    for start in range(0, len(STREAM), size):
        center.apply(STREAM[start : start + size])
    assert sums(store) == EXPECTED
    assert center.counts.updates == len(STREAM)
    assert center.counts.new_users == 2


def test_what_is_delivered_again_changes_no_byte(store, tmp_path):
    center = make_center(store, tmp_path)
    center.apply(STREAM)
    before = dict(store.scoped("halving.3").items())
    center.apply(STREAM[1:4] + STREAM)
    make_center(store, tmp_path).apply(STREAM)
    assert dict(store.scoped("halving.3").items()) == before
    assert center.counts.repeats == 8


def test_a_batch_is_read_in_the_order_of_its_numbers(store, tmp_path):
    make_center(store, tmp_path).apply(STREAM[::-1] + STREAM[:2])
    assert sums(store) == EXPECTED


def test_a_gap_stops_nobody_and_what_comes_late_is_reported_once(store, tmp_path):
    center = make_center(store, tmp_path)
    center.apply([STREAM[0], STREAM[3]])
    assert center.counts.gaps == 1
    center.apply([STREAM[2]])
    center.apply([STREAM[2]])
    assert sums(store) == {2: halved([5, 13])}
    assert reasons(tmp_path) == ["too late: event 3 of the same user was read before"]
    assert (center.counts.dead_letters, center.counts.repeats) == (1, 1)


def test_time_that_runs_backwards_is_refused_once(store, tmp_path):
    center = make_center(store, tmp_path)
    batch = [event(2, 1, 5, 100), event(2, 2, 7, 99), event(2, 3, 9, 100)]
    center.apply(batch)
    center.apply(batch)
    assert sums(store) == {2: halved([5, 9])}
    assert reasons(tmp_path) == ["time runs backwards: the newest event of the user is of 100"]


def test_somebody_whose_first_event_is_refused_is_not_applied_later(store, tmp_path):
    center = make_center(store, tmp_path)
    center.apply([event(2, 1, 5, 100)])
    center.apply([event(2, 2, 5, 50)])
    center.apply([event(2, 2, 5, 150)])
    assert sums(store) == {2: halved([5])}


def test_lines_that_are_no_events_harm_no_others(store, tmp_path):
    center = make_center(store, tmp_path)
    center.apply([b"{", *STREAM, event(2, 4, 5, price=1)])
    assert sums(store) == EXPECTED
    assert [reason[:12] for reason in reasons(tmp_path)] == ["no JSON: Exp", "unknown fiel"]
    assert center.counts.dead_letters == 2


class Interrupted(InMemoryStore):
    """A store where somebody else wrote first, twice."""

    collisions = 2

    def swap_many(self, reference, values):
        self.collisions -= 1
        return self.collisions < 0 and super().swap_many(reference, values)

    def scoped(self, namespace):
        self._namespace = namespace
        return self


def test_what_is_no_event_is_refused_once_whoever_else_writes(tmp_path):
    center = make_center(Interrupted(), tmp_path)
    center.apply([b"{", *STREAM])
    assert (center.counts.dead_letters, len(reasons(tmp_path))) == (1, 1)
    assert center.counts.updates == len(STREAM)


def test_events_that_a_warm_state_includes_are_passed_over(store, tmp_path):
    states = UserStates(store, METADATA)
    warm = {"sum": np.array([64.0]), "user": np.array([2.0])}
    states.swap({2: UserState(warm, Progress(newest=100, included_until=100))})
    center = make_center(store, tmp_path)
    batch = [event(2, 41, 5, 100), event(2, 42, 7, 101)]
    center.apply(batch)
    center.apply(batch)
    assert sums(store) == {2: halved([7], 64.0)}
    assert (center.counts.covered_by_history, center.counts.repeats) == (1, 2)


def test_a_newcomer_starts_from_the_empty_state_of_his_id(store, tmp_path):
    make_center(store, tmp_path).apply([event(7, 1, 5)])
    (state,) = UserStates(store, METADATA).read([7])
    assert state.arrays["user"][0] == 7.0


@pytest.mark.parametrize("writes_first", [False, True])
def test_a_store_that_fails_for_a_while_is_asked_again(tmp_path, writes_first):
    store, said = Failing(), []
    store.failures, store.writes_first = 2, writes_first
    center = make_center(store, tmp_path, said=said)
    center.apply(STREAM)
    assert sums(store) == EXPECTED
    assert [line.partition(", after")[0] for line in said] == [
        "trying again for up to 60 seconds: the store does not answer.",
        "it answers again",
    ]


def test_a_store_that_goes_on_failing_ends_the_center_in_one_sentence(tmp_path):
    store = Failing()
    store.failures = 10**6
    with pytest.raises(StoreError, match="gave up after 0 seconds; what was not acknowledged"):
        make_center(store, tmp_path, limits=Limits(patience=0.1)).apply(STREAM)
    store.failures = 0
    make_center(store, tmp_path).apply(STREAM)
    assert sums(store) == EXPECTED


def test_two_centers_that_were_given_the_same_people_harm_nothing(store, tmp_path, monkeypatch):
    one, other = make_center(store, tmp_path), make_center(store, tmp_path)
    read = one._states.read
    interrupting = iter([lambda: other.apply(STREAM[:3])])

    def interrupted(people):
        actual = read(people)
        next(interrupting, lambda: None)()
        return actual

    monkeypatch.setattr(one._states, "read", interrupted)
    one.apply(STREAM)
    assert sums(store) == EXPECTED
    assert one.counts.updates + other.counts.updates == len(STREAM)


@pytest.mark.parametrize("change", [{"weights_digest": "cd34"}, {"schema_fingerprint": "other"}])
def test_a_state_that_another_model_wrote_is_refused(store, tmp_path, change):
    make_center(store, tmp_path).apply(STREAM)
    center = make_center(store, tmp_path)
    center._states = UserStates(store, {**METADATA, **change})
    with pytest.raises(ValueError, match="the state of user 2 in 'halving.3' cannot be used: .*"):
        center.apply(STREAM)


def damage(store, user):
    """Cuts a stored state; returns the bytes that are left."""
    states = store.scoped("halving.3")
    states.put_many({user: states.get(user)[:-3]})
    return states.get(user)


def test_a_damaged_state_is_set_aside_and_nobody_elses_events_are_lost(store, tmp_path):
    make_center(store, tmp_path).apply(STREAM[:3])
    cut, said = damage(store, 2), []
    center = make_center(store, tmp_path, said=said)
    center.apply(STREAM[3:])
    assert sums(store) == {2: 13.0, 3: EXPECTED[3]}
    assert dict(center._states.damaged.items()) == {2: cut}
    assert (center.counts.damaged_states, center.counts.new_users) == (1, 0)
    assert said == [
        "the stored state of user 2 is damaged; it was set aside, and the user goes on from the empty "
        "state."
    ]
    center.apply([event(2, 4, 17)])
    assert center.counts.damaged_states == 1


def test_a_damaged_state_goes_on_from_a_known_history(store, tmp_path):
    make_center(store, tmp_path).apply(STREAM)
    damage(store, 2), damage(store, 3)
    arrays = {"sum": np.array([64.0]), "user": np.array([2.0])}
    known = {2: UserState(arrays, Progress.up_to(1002))}
    center = make_center(
        store, tmp_path, rebuild=lambda users: {u: known[u] for u in known if u in users}
    )
    center.apply(STREAM)
    assert sums(store) == {2: halved([13], 64.0), 3: EXPECTED[3]}
    assert (center.counts.damaged_states, center.counts.covered_by_history) == (2, 2)


def test_a_damaged_state_of_whom_every_event_is_refused_is_mended_once(store, tmp_path):
    make_center(store, tmp_path).apply(STREAM)
    damage(store, 2)
    center = make_center(store, tmp_path)
    center.apply([event(2, 2**63 - 1, 5, 1003)])
    center.apply([event(2, 2**63 - 1, 5, 1003)])
    assert (center.counts.damaged_states, sums(store)[2]) == (1, 0.0)


def test_a_value_that_is_no_state_counts_as_damaged(store, tmp_path):
    states = UserStates(store, METADATA)
    states.store.put_many({2: b"junk", 3: encode_value({}, sequence=3, **states._header)})
    assert [user for user, _ in states.damaged_items()] == [2, 3]
    with pytest.raises(DamagedValueError, match="the state of user 3 .* cannot be used"):
        states.read([3])


def test_a_number_far_ahead_is_refused_and_the_next_event_is_none_too_late(store, tmp_path):
    center = make_center(store, tmp_path, limits=Limits(longest_gap=100))
    center.apply([event(2, 1, 5), event(2, 102, 7, 1003), event(3, 101, 7)])
    center.apply([event(2, 2, 7), event(2, 102, 9, 1004)])
    assert sums(store) == {2: halved([5, 7, 9])}
    assert reasons(tmp_path)[0].startswith(
        "sequence 102 is more than 100 beyond 1, the newest of the"
    )
    assert [reason[:12] for reason in reasons(tmp_path)] == ["sequence 102", "sequence 101"]


def test_versions_live_beside_each_other(store, tmp_path):
    make_center(store, tmp_path).apply(STREAM)
    center = make_center(store, tmp_path)
    center._states = UserStates(store, {**METADATA, "version": 4})
    center.apply(STREAM[:2])
    assert sums(store) == EXPECTED
    assert len(dict(center._states.items())) == 2


class Batches:
    """A source that remembers what had been stored when it was acknowledged."""

    def __init__(self, store, batches):
        self._store, self._batches = store, list(batches)
        self.acknowledged = []

    @property
    def is_finished(self):
        return not self._batches

    def read(self, most):
        return self._batches.pop(0)[:most]

    def acknowledge(self):
        self.acknowledged.append(sums(self._store))


def test_events_are_acknowledged_when_they_are_in_the_store(store, tmp_path):
    source = Batches(store, [STREAM[:2], [], STREAM[2:]])
    consume(make_center(store, tmp_path), source)
    assert source.acknowledged == [{2: 5.0, 3: 7.0}, EXPECTED]


def test_nothing_is_acknowledged_that_could_not_be_stored(tmp_path):
    store = Failing()
    store.failures = 10**6
    source = Batches(store, [STREAM])
    with pytest.raises(StoreError):
        consume(make_center(store, tmp_path, limits=Limits(patience=0.0)), source)
    assert source.acknowledged == []


def test_a_center_that_is_told_to_stop_acknowledges_what_it_did(store, tmp_path):
    source = Batches(store, [STREAM[:1], STREAM[1:]])
    answers = iter([False, True])
    consume(make_center(store, tmp_path), source, lambda: next(answers))
    assert source.acknowledged == [{2: 5.0}]


def test_a_store_that_is_read_only_ends_the_center_and_keeps_its_states(tmp_path, monkeypatch):
    pytest.importorskip("lmdb", reason="the Python package lmdb is not installed")
    import lmdb

    with open_store(f"lmdb:{tmp_path / 'S'}") as store:
        make_center(store, tmp_path).apply(STREAM[:3])
    with open_store(f"lmdb:{tmp_path / 'S'}") as store:
        store._environment.close()
        store._environment = lmdb.open(str(tmp_path / "S"), readonly=True)
        with pytest.raises(StoreError, match="could not write the LMDB store.*writable"):
            make_center(store, tmp_path, limits=Limits(patience=0.0)).apply(STREAM)
        assert sums(store) == {2: halved([5, 11]), 3: 7.0}
