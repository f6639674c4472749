"""SIM whole: what its variants are made of, and its two losses."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.layers.search.readers import ReleasedExactSearchUnit
from dgin_tf.layers.search.soft import ReleasedSoftSearch
from dgin_tf.layers.tower import Tower
from dgin_tf.models.base import ModelConfig
from dgin_tf.models.sim import SIMHard, SIMSoft
from dgin_tf.schema import Schema
from tests.conformance.catalogue import batch
from tests.prepared import make_schema

BACKBONE = ModelConfig(embedding_dim=3, tower_units=(7, 5))


def without_times():
    schema = make_schema()
    fields = tuple(field for field in schema.fields if field.name != "timestamp")
    return Schema(fields, schema.vocabulary_sizes, schema.max_history)


def losses(weight, training=False):
    model = SIMSoft(make_schema(), BACKBONE, k=2, short_events=2, auxiliary_weight=weight)
    features = batch()
    tf.random.set_seed(3)
    with tf.GradientTape() as tape:
        parts = model.compute_losses(features, model(features, training=training))
        loss = tf.add_n(list(parts.values()))
    unit = model.encoders[""].long.unit
    gradients = tape.gradient(loss, [unit.target_kernel, unit.event_kernel])
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
    model, features = SIMSoft(make_schema(), BACKBONE, k=2, short_events=2), batch()
    with tf.GradientTape(persistent=True) as tape:
        parts = model.compute_losses(features, model(features))
    table = model.embedding.tables["item_id"]
    for name in ("target", "auxiliary_logits"):
        assert np.any(tf.convert_to_tensor(tape.gradient(parts[name], table)))


@pytest.mark.parametrize(("asked", "taken"), [(0.5, 0.5), (None, 0.99)])
def test_the_backbones_momentum_is_that_of_head_and_search(asked, taken):
    config = dataclasses.replace(BACKBONE, momentum=asked)
    model = SIMSoft(make_schema(), config, k=2, short_events=2)
    model(batch())
    towers = [layer for layer in model.submodules if isinstance(layer, Tower)]
    assert [tower.batch_norm.moments.momentum for tower in towers] == [taken, taken]


def test_hard_search_has_no_loss_of_its_own():
    model = SIMHard(make_schema(), BACKBONE)
    assert model.auxiliary_loss_names == []


def test_what_was_found_is_among_the_outputs_and_of_the_candidates_category():
    model, features = SIMHard(make_schema(), BACKBONE, k=3, short_events=2), batch(time=19)
    outputs = model(features)
    places, real = outputs["long_found"], outputs["long_found_mask"].numpy()
    found = tf.gather(features["hist_category_id"], places, batch_dims=1).numpy()
    wanted = features["cand_category_id"].numpy()[..., None]
    assert np.any(real)
    assert np.all((found == wanted)[real])


@pytest.mark.parametrize("model", [SIMHard, SIMSoft])
def test_times_are_read_only_where_the_model_embeds_gaps(model):
    for time in (False, True):
        made, features = model(make_schema(), BACKBONE, short_events=2, time=time), batch()
        later = {**features, "cand_timestamp": features["cand_timestamp"] * 50}
        is_same = np.array_equal(made(features)["logits"], made(later)["logits"])
        assert is_same != time


def test_times_that_the_data_do_not_have_are_refused():
    with pytest.raises(ValueError, match="the schema has none"):
        SIMHard(without_times(), time=True)


def test_a_field_that_candidates_do_not_have_is_refused():
    with pytest.raises(ValueError, match=r"one of \['item_id', 'category_id'\]; got 'shop_id'"):
        SIMHard(make_schema(), field="shop_id")


def test_the_releases_choices_are_those_that_the_ledger_lists():
    schema = make_schema()
    hard, soft = SIMHard(schema, BACKBONE, "released"), SIMSoft(schema, BACKBONE, "released")
    assert hard.encoders[""].long.unit.k == schema.max_history
    assert isinstance(soft.encoders[""].long.unit, ReleasedSoftSearch)
    for model in (hard, soft):
        assert isinstance(model.encoders[""].long.reader, ReleasedExactSearchUnit)
        assert model.encoders[""].short.attention.unit.units == (80, 40)
        assert (model.loss_scale, model.embedding.user_fields) == ("official_half", ())
    with pytest.raises(ValueError, match="released variant has no times"):
        SIMHard(schema, BACKBONE, "released", time=True)
