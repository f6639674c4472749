"""The contrastive loss of DMBIN."""

import numpy as np

from dgin_tf.layers.dual_interest import contrastive_loss
from tests.oracles import multi_behavior

RNG = np.random.default_rng(4)
PRESENT = np.array([[1, 1, 1], [1, 0, 1], [0, 1, 0], [0, 0, 0], [1, 1, 0]], bool)


def vectors():
    found = RNG.normal(size=(*PRESENT.shape, 4)).astype(np.float32)
    return found / np.linalg.norm(found, axis=-1, keepdims=True)


def test_it_is_the_mean_over_the_pairs_that_a_user_has():
    common, specific = vectors(), vectors()
    found = contrastive_loss(common, specific, PRESENT, 0.3).numpy()
    expected = multi_behavior.contrast(common, specific, PRESENT, 0.3)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert np.all(found[[0, 1, 4]] > 0)
    assert not np.any(found[[2, 3]])  # one type, or none


def test_equal_similarities_cost_the_logarithm_of_how_many_there_are():
    same = np.zeros((*PRESENT.shape, 2), np.float32)
    same[..., 0] = 1
    found = contrastive_loss(same, same, PRESENT, 0.1).numpy()
    # Of user 4, for each of both pairs: two other users have the type, and two types are its own.
    np.testing.assert_allclose(found[4], np.log(1 + 2 + 2), rtol=1e-5)


def test_what_is_not_there_does_not_matter():
    common, specific = vectors(), vectors()
    expected = contrastive_loss(common, specific, PRESENT, 0.3)
    for values in (common, specific):
        values[~PRESENT] = 7.0
    np.testing.assert_array_equal(contrastive_loss(common, specific, PRESENT, 0.3), expected)
