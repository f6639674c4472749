"""MIMN and RUM whole: the published models' numbers, and what the settings of MIMN switch."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.models import registry
from dgin_tf.models.base import ModelConfig
from dgin_tf.models.mimn import MIMN
from dgin_tf.ops.ntm import NTMStep
from dgin_tf.released.dien import ReleasedAuxiliaryLoss
from dgin_tf.released.memory import ReleasedMemoryInterest, ReleasedTuringMemory
from dgin_tf.released.mimn import MIMNReleased, RUMReleased
from dgin_tf.schema import negative_name
from tests import golden_files
from tests.conformance.catalogue import batch as make_batch
from tests.layers.memory import golden_memory
from tests.models import golden_dien, golden_models
from tests.prepared import make_schema

BACKBONE = ModelConfig(embedding_dim=3, tower_units=(7, 5))


def published(golden):
    """The released model with a golden file's sizes and weights, and its batch."""
    rows, dim = golden["w_emb_shared_item_and_cate"].shape
    head = golden_files.weights(golden, "head_")
    units = golden_files.hidden_units(head)
    config = ModelConfig(dim, tower_units=units)
    schema = golden_models.schema(rows, rows, 2, golden["in_mask"].shape[1])
    loss = ReleasedAuxiliaryLoss() if "in_neg_item_hist" in golden else None
    encoder = ReleasedMemoryInterest(golden_memory.cell(golden), auxiliary_loss=loss)
    model = MIMNReleased(schema, config, encoder)
    features = golden_models.batch({**golden, "in_none": golden["in_item"]}, "none")
    for field, kind in (("item", "item"), ("category", "cate")):
        if loss is not None:
            name = negative_name(f"hist_{field}_id")
            features[name] = tf.constant(golden[f"in_neg_{kind}_hist"])
    model(features)
    for name in ("item_id", "category_id"):
        model.embedding.tables[name].assign(golden["w_emb_shared_item_and_cate"])
    golden_memory.assign(encoder.memory, golden)
    if encoder.attention is not None:
        prefix = "channel_att_" if encoder.memory.step.has_slot_keys else "att_"
        golden_models.assign_unit(encoder.attention.unit, golden_files.weights(golden, prefix))
    if loss is not None:
        golden_dien.assign_click_net(loss.score, golden_files.weights(golden, "aux_"))
    layers = range(1, len(units) + 1)
    slopes = {f"dice{layer}_alpha": head[f"prelu{layer}_alpha"] for layer in layers}
    golden_models.assign_released_head(model.tower, {**head, **slopes})
    return model, features


@pytest.mark.parametrize(
    "stem", ["mimn_model_default", "mimn_model_full", "mimn_model_full_masked", "rum_model"]
)
def test_golden_released_models(stem):
    golden = golden_files.load(stem)
    model, features = published(golden)
    outputs = model(features)
    golden_files.assert_close(tf.sigmoid(outputs["logits"][:, 0]), golden["out_y_hat"][:, 0])
    for theirs, ours in (
        ("final_M", "memory"),
        ("final_usage_w_aggre", "usage"),
        ("final_sum_aggre", "written"),
    ):
        if f"out_{theirs}" in golden:
            state = outputs["state"]["interest"]
            golden_files.assert_close(state[ours], golden[f"out_{theirs}"], 5e-5)
    losses = model.compute_losses(features, outputs)
    golden_files.assert_close(sum(losses.values()), golden["out_loss"])
    if "out_aux_loss" in golden:
        golden_files.assert_close(losses["auxiliary"], golden["out_aux_loss"])
    if "out_reg_loss" in golden:
        golden_files.assert_close(losses["utilization"] / golden["out_reg_loss"], 1.0, 1e-4)


@pytest.mark.parametrize(
    "stem", ["mimn_model_default", "mimn_model_full", "mimn_model_full_masked"]
)
def test_golden_steps_of_released_models(stem):
    golden = golden_files.load(stem)
    model, features = published(golden)
    history = model.past_events(features)
    memory = model.encoder.memory
    _, traces = memory(history.events, history.mask, traces=["memory", "output"])
    golden_files.assert_close(traces["memory"], golden["out_per_step_M"])
    golden_files.assert_close(traces["output"], golden["out_per_step_output"])


def mimn(model=MIMN, **settings):
    return model.from_settings(make_schema(), BACKBONE, model.Settings(**settings))


def test_the_ablations_of_table_4_are_settings():
    features = make_batch()
    plain = mimn(utilization_weight=0.0, top_k=0)
    balanced = mimn(top_k=0)
    whole = MIMN(make_schema(), BACKBONE)
    assert plain.auxiliary_loss_names == []
    assert balanced.auxiliary_loss_names == whole.auxiliary_loss_names == ["utilization"]
    assert "channels" not in balanced(features)["state"]["interest"]
    assert whole(features)["state"]["interest"]["channels"].shape == [len(features["label"]), 8, 6]


def test_addressing_is_a_setting_of_the_paper_form_alone():
    memory = mimn(slots=3, sharpness=0.0, normalize_usage=True, stop_gradient=True).encoder.memory
    assert memory.step == NTMStep(1, None, normalizes_usage=True, stops_gradient=True)
    assert mimn(slots=3, sharpness=5.0).encoder.memory.sharpness == 5.0
    assert "sharpness" in registry.settings("mimn")
    assert "sharpness" not in registry.settings("mimn_released")


@pytest.mark.parametrize("model", ["din", "augru", "mimn", "gru4rec", "mimn_released"])
def test_the_history_sum_stands_beside_any_encoder(model):
    config = dataclasses.replace(BACKBONE, history_sum=True)
    encoders = registry.make_model(model, make_schema(), config).encoders
    assert list(encoders) == ["history_sum", "interest"]
    features = make_batch()
    widths = [
        registry.make_model(model, make_schema(), c)(features)["outputs"]
        for c in (BACKBONE, config)
    ]
    is_memory = model not in ("din", "augru")
    assert ("history_sum" in widths[0]) == is_memory
    np.testing.assert_array_equal(widths[1]["history_sum"]["interest"].shape[-1], 6)


@pytest.mark.parametrize("slots", [4, 6, 8])
def test_the_state_does_not_grow_with_the_history(slots):
    model = mimn(slots=slots)
    states = [model.encode_user(make_batch(time=time))["interest"] for time in (3, 19)]
    sizes = [{name: value.shape for name, value in state.items()} for state in states]
    assert sizes[0] == sizes[1]
    assert sizes[0]["memory"] == [4, slots, 6]


def test_the_auxiliary_loss_is_left_out_unless_asked_for():
    features = make_batch()
    assert "auxiliary" in mimn(slots=3, auxiliary_weight=0.5)(features)["losses"]
    assert "auxiliary" not in mimn(slots=3)(features)["losses"]


def test_the_released_unit_updates_one_channel():
    with pytest.raises(ValueError, match="one channel; got top_k=2"):
        mimn(MIMNReleased, top_k=2)


def test_rums_released_cell_has_no_slot_keys():
    model = RUMReleased(make_schema(), BACKBONE)
    model.build()
    encoder = model.encoder
    assert isinstance(encoder.memory, ReleasedTuringMemory)
    assert not encoder.memory.step.has_slot_keys
    assert not np.any(["keys" in v.name for v in encoder.memory.trainable_variables])
