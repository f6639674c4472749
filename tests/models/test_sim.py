"""SIM whole: what its variants are made of, and its two losses."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.layers.search.alsh import ALSHSearch
from dgin_tf.layers.tower import Tower
from dgin_tf.models.base import ModelConfig
from dgin_tf.models.registry import MODELS, make_model
from dgin_tf.schema import Schema
from tests.conformance.catalogue import batch
from tests.prepared import make_schema

BACKBONE = ModelConfig(embedding_dim=3, tower_units=(7, 5))


def without_times():
    schema = make_schema()
    fields = tuple(field for field in schema.fields if field.name != "timestamp")
    return Schema(fields, schema.vocabulary_sizes, schema.max_history)


def losses(weight, training=False):
    model = make_model(
        "sim_soft", make_schema(), BACKBONE, k=2, short_events=2, auxiliary_weight=weight
    )
    features = batch()
    tf.random.set_seed(3)
    with tf.GradientTape() as tape:
        parts = model.compute_losses(features, model(features, training=training))
        loss = tf.add_n(list(parts.values()))
    query = model.search.query
    gradients = tape.gradient(loss, [query.target_kernel, query.event_kernel])
    return parts, [tf.convert_to_tensor(g).numpy() for g in gradients]


def test_the_loss_is_the_targets_and_alpha_times_the_searchs():
    parts, gradients = losses(0.5)
    assert set(parts) == {"target", "auxiliary_logits"}
    assert all(np.any(g) for g in gradients)


def test_without_the_auxiliary_loss_nothing_trains_the_search():
    parts, gradients = losses(0.0)
    assert float(parts["auxiliary_logits"]) == 0.0
    assert not any(np.any(g) for g in gradients)


def test_both_losses_train_the_same_embeddings():
    model, features = make_model("sim_soft", make_schema(), BACKBONE, k=2, short_events=2), batch()
    with tf.GradientTape(persistent=True) as tape:
        parts = model.compute_losses(features, model(features))
    table = model.embedding.tables["item_id"]
    for name in ("target", "auxiliary_logits"):
        assert np.any(tf.convert_to_tensor(tape.gradient(parts[name], table)))


@pytest.mark.parametrize(("asked", "taken"), [(0.5, 0.5), (None, 0.99)])
def test_the_backbones_momentum_is_that_of_head_and_search(asked, taken):
    config = dataclasses.replace(BACKBONE, momentum=asked)
    model = make_model("sim_soft", make_schema(), config, k=2, short_events=2)
    model(batch())
    towers = [layer for layer in model.submodules if isinstance(layer, Tower)]
    assert [tower.batch_norm.moments.momentum for tower in towers] == [taken, taken]


def test_hard_search_has_no_loss_of_its_own():
    model = make_model("sim_hard", make_schema(), BACKBONE)
    assert model.auxiliary_loss_names == []


def test_what_was_found_is_among_the_outputs_and_of_the_candidates_category():
    model, features = (
        make_model("sim_hard", make_schema(), BACKBONE, k=3, short_events=2),
        batch(time=19),
    )
    long = model(features)["outputs"]["interest"]["long"]
    places, real = long["topk_indices"], long["topk_mask"].numpy()
    found = tf.gather(features["hist_category_id"], places, batch_dims=1).numpy()
    wanted = features["cand_category_id"].numpy()[..., None]
    assert np.any(real)
    assert np.all((found == wanted)[real])


@pytest.mark.parametrize("name", ["sim_hard", "sim_soft"])
def test_times_are_read_only_where_the_model_embeds_gaps(name):
    for time in (False, True):
        model = make_model(name, make_schema(), BACKBONE, short_events=2, time=time)
        features = batch()
        later = {**features, "cand_timestamp": features["cand_timestamp"] * 50}
        is_same = np.array_equal(model(features)["logits"], model(later)["logits"])
        assert is_same != time


def test_times_that_the_data_do_not_have_are_refused():
    with pytest.raises(ValueError, match="the schema has none"):
        make_model("sim_hard", without_times(), time=True)


def test_a_field_that_candidates_do_not_have_is_refused():
    with pytest.raises(ValueError, match=r"one of \['item_id', 'category_id'\]; got 'shop_id'"):
        make_model("sim_hard", make_schema(), field="shop_id")


def test_an_index_for_inner_products_takes_the_place_of_brute_force():
    search = ALSHSearch(k=19, network=BACKBONE.tower("network"), name="search")
    model = MODELS["sim_soft"](make_schema(), BACKBONE, search, short_events=2)
    brute = make_model("sim_soft", make_schema(), BACKBONE, k=19, short_events=2)
    for built_model in (model, brute):
        built_model.build()
    for ours, theirs in zip(model.trainable_weights, brute.trainable_weights, strict=True):
        ours.assign(theirs)
    features = batch(time=19)
    logits = brute(features)["logits"]
    np.testing.assert_allclose(model(features)["logits"], logits, rtol=1e-4, atol=1e-5)
    assert "table_keys" in model.encode_user(features)["interest"]["long"]
    copy = type(model).from_config(model.get_config())
    copy.build()
    copy.set_weights(model.get_weights())
    np.testing.assert_allclose(copy(features)["logits"], logits, rtol=1e-4, atol=1e-5)
