"""What Wide&Deep and PNN add to BaseModel, and that without it they are BaseModel."""

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.layers.events import embed_history
from dgin_tf.models.base import ModelConfig
from dgin_tf.models.baselines.pnn import PNN
from tests.conformance.catalogue import BACKBONE, batch, build
from tests.prepared import make_schema


def test_base_model_ignores_the_order_of_the_history():
    model, features = build("base_model"), batch()
    other = {k: v[:, ::-1] if k.startswith("hist_") else v for k, v in features.items()}
    found, expected = (model(f)["logits"] for f in (other, features))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_a_silent_wide_part_leaves_base_model():
    base, wide, features = build("base_model"), build("wide_deep"), batch()
    table = wide.encoders["wide"].table
    deep = [variable for variable in wide.trainable_variables if variable is not table]
    for mine, theirs in zip(deep, base.trainable_variables, strict=True):
        mine.assign(theirs)
    table.assign(tf.zeros_like(table))
    np.testing.assert_allclose(wide(features)["logits"], base(features)["logits"], rtol=1e-6)


@pytest.mark.parametrize("entry", ["wide_deep", "wide_deep_released"])
def test_the_logit_is_wide_plus_deep(entry):
    model, features = build(entry), batch()
    both, wide_weights = model(features)["logits"].numpy(), model.wide_variables
    values = [weight.numpy() for weight in wide_weights]
    for weight in wide_weights:
        weight.assign(tf.zeros_like(weight))
    deep = model(features)["logits"].numpy()
    for weight, value in zip(wide_weights, values, strict=True):
        weight.assign(value)
    for weight in model.tower.output_layer.weights:
        weight.assign(tf.zeros_like(weight))
    np.testing.assert_allclose(both, deep + model(features)["logits"], rtol=1e-4, atol=1e-5)


def test_the_table_of_crosses_is_trained_like_a_table():
    model = build("wide_deep")
    assert any(variable is model.encoders["wide"].table for variable in model.embedding_variables)
    assert len(build("wide_deep_released").embedding_variables) == len(model.embedding.tables)


def test_the_released_wide_part_reads_what_the_release_concatenates():
    model = build("wide_deep_released")
    width, user = model.embedding.event_dim, BACKBONE.embedding_dim
    assert [tuple(v.shape) for v in model.wide_variables] == [(3 * width, 2), (2,)]
    assert model.tower.hidden[0].kernel.shape[0] == user + 2 * width


def test_pnn_without_product_weights_is_the_plain_tower():
    model, features = build("pnn"), batch()
    model.product.theta.assign(tf.zeros_like(model.product.theta))
    target = model.embedding.target(features).embedding
    candidates = tf.shape(target)[1]
    history = embed_history(model.embedding.history(features), tf.float32)
    pooled = tf.reduce_sum(history.events, axis=1)
    user, pooled = (
        tf.repeat(part[:, None], candidates, axis=1)
        for part in (model.embedding.user(features), pooled)
    )
    joined = tf.concat([user, target, pooled], axis=-1)
    hidden = model.activation(tf.tensordot(joined, model.product.kernel, 1) + model.product.bias)
    expected = model.tower(hidden)
    np.testing.assert_allclose(model(features)["logits"], expected, rtol=1e-4, atol=1e-5)


def test_pnn_needs_a_hidden_layer():
    with pytest.raises(ValueError, match="at least one hidden layer"):
        PNN(make_schema(), ModelConfig(tower_units=()))
