"""What is around an event, and the component along it."""

import numpy as np

from dgin_tf.layers.aligned_events import nearest_events, project_onto
from dgin_tf.ops.event_order import newest_events
from tests.oracles import multi_behavior

RNG = np.random.default_rng(3)


def test_the_nearest_are_those_right_before_and_right_after():
    kind = RNG.integers(0, 3, (4, 23))  # clicks, others, neither
    kind[3] = 0
    places, mask = (tensor.numpy() for tensor in newest_events(kind == 0, 5))
    near, found = (tensor.numpy() for tensor in nearest_events(places, kind == 1, 2))
    for user in range(4):
        assert sorted(places[user][mask[user]]) == list(np.flatnonzero(kind[user] == 0))[-5:]
        for click in np.flatnonzero(mask[user]):
            expected = multi_behavior.nearest(places[user, click], kind[user] == 1, 2)
            assert list(near[user, click][found[user, click]]) == expected
    assert not np.any(found[3])


def test_no_history_has_nothing_near():
    places, mask = newest_events(np.zeros((2, 0), bool), 3)
    near, found = nearest_events(places, np.zeros((2, 0), bool), 2)
    assert not np.any(mask)
    assert not np.any(found)
    assert near.shape == (2, 3, 4)


def test_a_projection_is_parallel_and_its_rest_is_orthogonal():
    vectors, onto = RNG.normal(size=(2, 5, 7))
    along = project_onto(vectors, onto).numpy()
    np.testing.assert_allclose(np.sum((vectors - along) * onto, -1), 0, atol=1e-9)
    np.testing.assert_allclose(project_onto(along, onto), along, rtol=1e-9)
    np.testing.assert_allclose(along[0], multi_behavior.project(vectors[0], onto[0]), rtol=1e-9)
    assert not np.any(project_onto(vectors, 0 * onto))
