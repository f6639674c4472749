"""Rocket Launching: what teaches whom, and that only the light net leaves the house."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.models.base import ModelConfig
from dgin_tf.models.rocket_launching import RocketLaunching
from tests.conformance.catalogue import batch as make_batch
from tests.prepared import make_schema

SMALL = ModelConfig(embedding_dim=3, tower_units=(5, 2))
UNITS = (2, 7)


def make(**options):
    model = RocketLaunching(make_schema(), SMALL, units=UNITS, **options)
    model(make_batch())
    return model


def booster_variables(model):
    shared = {v.ref() for v in model.embedding_variables}
    return [v for v in model.booster.trainable_variables if v.ref() not in shared]


def gradients_of(model, name, variables):
    features = make_batch()
    with tf.GradientTape() as tape:
        loss = model.compute_losses(features, model(features, training=True))[name]
    found = tape.gradient(loss, variables, unconnected_gradients="zero")
    return [np.abs(tf.convert_to_tensor(gradient)).max() for gradient in found]


@pytest.mark.parametrize("gradient_block", [True, False])
def test_the_hint_teaches_the_booster_only_without_the_block(gradient_block):
    model = make(gradient_block=gradient_block)
    found = gradients_of(model, "hint", booster_variables(model))
    assert any(found) != gradient_block


def test_the_hint_teaches_the_light_net_and_the_shared_embedding():
    model = make()
    assert all(gradients_of(model, "hint", model.light.tower.trainable_variables))
    assert any(gradients_of(model, "hint", model.embedding_variables))


def test_the_booster_learns_from_labels():
    model = make()
    assert any(gradients_of(model, "booster_target", booster_variables(model)))


def test_the_hint_is_the_weighted_mean_of_squared_distances_over_real_candidates():
    model, features = make(hint_weight=0.3), make_batch()
    outputs = model(features)
    distance = np.square(outputs["logits"] - outputs["booster"]["logits"])
    expected = 0.3 * distance[features["cand_mask"].numpy()].mean()
    np.testing.assert_allclose(model.compute_losses(features, outputs)["hint"], expected, rtol=1e-5)


def test_equal_logits_need_no_hint():
    model, features = make(), make_batch()
    outputs = model(features)
    outputs["booster"]["logits"] = outputs["logits"]
    assert model.compute_losses(features, outputs)["hint"] == 0


def test_nets_share_the_embedding_and_nothing_else():
    model = make()
    assert model.booster.embedding is model.light.embedding is model.embedding
    light, booster = ({v.ref() for v in net.variables} for net in (model.light, model.booster))
    tables = {v.ref() for v in model.embedding_variables}
    metrics = {v.ref() for m in (*model.light.metrics, *model.booster.metrics) for v in m.variables}
    assert (light & booster) - metrics == tables
    assert model.booster.interest_encoder.extractor.units == UNITS[1]


def test_rows_of_the_shared_embedding_are_penalized_once():
    config = dataclasses.replace(SMALL, embedding_l2=0.5)
    model, features = RocketLaunching(make_schema(), config, units=UNITS), make_batch()
    for training, penalty in ((True, model.embedding.penalty(features)), (False, 0.0)):
        parts = model.compute_losses(features, model(features, training=training))
        np.testing.assert_allclose(parts.get("regularization", 0.0), penalty, rtol=1e-6)


def test_predictions_are_the_light_nets():
    model, features = make(), make_batch()
    logits = model(features)["logits"]
    np.testing.assert_array_equal(model.light(features)["logits"], logits)
    np.testing.assert_array_equal(model.predict_on_batch(features), tf.sigmoid(logits))


def test_serving_touches_no_variable_of_the_booster():
    model, features = make(), make_batch()
    served = tf.function(
        lambda: model.score(model.encode_user(features), features)["logits"], autograph=False
    )
    captured = {id(tensor) for tensor in served.get_concrete_function().captured_inputs}
    assert {id(v.handle) for v in model.light.tower.trainable_variables} <= captured
    assert not {id(v.handle) for v in booster_variables(model)} & captured


def test_fitting_reports_every_part_and_learns():
    model = make()
    model.compile(tf.keras.optimizers.Adam(0.01))
    data = tf.data.Dataset.from_tensors(make_batch()).repeat(3)
    history = model.fit(data, epochs=2, verbose=0).history
    parts = {"target", "auxiliary", "hint", "booster_target", "booster_auxiliary"}
    assert set(history) == {"loss", *parts}
    assert history["loss"][1] < history["loss"][0]
