"""Every model reads the behavior types of its config and no others, in training and in serving."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.models.behavior_types import select_types
from dgin_tf.models.registry import make_model
from dgin_tf.schema import FIRST_ID
from tests.conformance.catalogue import BACKBONE, BEHAVIOR_TYPES, SMALL, batch
from tests.models.test_searching_models import with_behavior_types

SCHEMA, FEATURES = with_behavior_types()
VIEW = FIRST_ID
CONFIG = dataclasses.replace(BACKBONE, behavior_types=BEHAVIOR_TYPES[:1])


def without_other_types(features):
    """The batch that would have been prepared from views alone, by numpy."""
    is_view = features["hist_mask"].numpy() & (features["hist_behavior_type"].numpy() == VIEW)
    found = dict(features)
    for name, values in features.items():
        if name.startswith("hist_"):
            views = np.zeros_like(values.numpy())
            for user, mask in enumerate(is_view):
                views[user, : mask.sum()] = values.numpy()[user, mask]
            found[name] = tf.constant(views)
    return found


def test_a_selected_batch_is_the_one_without_other_events():
    expected = without_other_types(FEATURES)
    found = select_types(FEATURES, [VIEW], SCHEMA)
    assert found.keys() == expected.keys()
    mask = expected["hist_mask"].numpy()
    assert 0 < mask.sum() < FEATURES["hist_mask"].numpy().sum()
    np.testing.assert_array_equal(found["hist_mask"], mask)
    for name in found:
        shown = np.where(mask, found[name], 0) if name.startswith("hist_") else found[name]
        np.testing.assert_array_equal(shown, expected[name])


def test_of_a_type_the_newest_events_stay():
    views = select_types(FEATURES, [VIEW], SCHEMA)
    newest = select_types(FEATURES, [VIEW], SCHEMA, newest=2)
    assert newest["hist_item_id"].shape[1] == 2
    for user, count in enumerate(views["hist_mask"].numpy().sum(1)):
        items = views["hist_item_id"].numpy()[user, max(count - 2, 0) : count]
        mask = newest["hist_mask"].numpy()[user]
        np.testing.assert_array_equal(newest["hist_item_id"].numpy()[user][mask], items)


def test_only_events_that_are_read_are_penalized():
    config = dataclasses.replace(CONFIG, embedding_l2=0.1)
    model = make_model("din", SCHEMA, config, **SMALL["din"])
    model(FEATURES, training=True)
    expected = model.embedding.penalty(select_types(FEATURES, [VIEW], SCHEMA))
    np.testing.assert_allclose(model.losses[0], expected, rtol=1e-6)
    assert float(model.embedding.penalty(FEATURES)) > float(expected)


@pytest.mark.parametrize("config", [{"behavior_types": ()}, {"newest_events": 0}])
def test_a_number_of_events_of_no_type_is_refused(config):
    settings = dataclasses.replace(CONFIG, newest_events=3)
    with pytest.raises(ValueError, match="positive number of the events of behavior_types"):
        make_model("din", SCHEMA, dataclasses.replace(settings, **config), **SMALL["din"])


def test_events_without_types_are_refused():
    with pytest.raises(ValueError, match="hist_behavior_type"):
        select_types({"hist_item_id": tf.ones([1, 2])}, [VIEW], SCHEMA)


@pytest.mark.parametrize("name", SMALL)
def test_a_model_of_one_type_sees_the_log_of_that_type_alone(name):
    tf.keras.utils.set_random_seed(0)
    model = make_model(name, SCHEMA, CONFIG, **SMALL[name])
    model(FEATURES)
    random = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(random.normal(0, 0.3, variable.shape))
    views = without_other_types(FEATURES)
    expected = model(views)
    found = model(FEATURES)
    np.testing.assert_allclose(found["logits"], expected["logits"], rtol=1e-5, atol=1e-5)
    for loss, values in expected["losses"].items():
        np.testing.assert_allclose(found["losses"][loss], values, rtol=1e-4, atol=1e-5)
    state = model.encode_user(FEATURES)
    served = model.score(state, FEATURES)["logits"]
    np.testing.assert_allclose(served, expected["logits"], rtol=1e-5, atol=1e-5)
    everything = {**FEATURES, "hist_behavior_type": tf.fill(FEATURES["hist_mask"].shape, VIEW)}
    assert np.any(np.abs(model(everything)["logits"] - found["logits"]) > 1e-4)
    # No index lists the newest events of a type.
    assert (model.serving_spec.history, model.serving_spec.groups) == (None, None)


@pytest.mark.parametrize("name", ["din", "dgin", "dmt"])
def test_a_type_that_the_data_do_not_have_is_refused(name):
    config = dataclasses.replace(BACKBONE, behavior_types=("look",))
    with pytest.raises(ValueError, match=r"\['view', 'cart', 'buy'\].*got \['look'\]"):
        make_model(name, SCHEMA, config, **SMALL[name])


def test_several_types_keep_their_order():
    features = {**FEATURES, "hist_behavior_type": batch()["hist_behavior_type"]}
    found = select_types(features, [VIEW, VIEW + 2], SCHEMA)
    for user, mask in enumerate(features["hist_mask"].numpy()):
        types = features["hist_behavior_type"].numpy()[user]
        wanted = features["hist_item_id"].numpy()[user, mask & (types != VIEW + 1)]
        real = found["hist_mask"].numpy()[user]
        np.testing.assert_array_equal(found["hist_item_id"].numpy()[user, real], wanted)
