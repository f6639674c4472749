"""MIMN and RUM whole: the published models' numbers, and what the settings of MIMN switch."""

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.layers.memory.released import ReleasedMemoryInterest, ReleasedTuringMemory
from dgin_tf.models.base import ModelConfig
from dgin_tf.models.baselines.rum import RUM
from dgin_tf.models.dien import auxiliary_loss
from dgin_tf.models.mimn import MIMN, MemoryFamilyModel
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
    config = ModelConfig(dim, tower_units=(len(head["dense1_bias"]), len(head["dense2_bias"])))
    schema = golden_models.schema(rows, rows, 2, golden["in_mask"].shape[1])
    loss = auxiliary_loss(1.0, "released") if "in_neg_item_hist" in golden else None
    encoder = ReleasedMemoryInterest(golden_memory.cell(golden), auxiliary_loss=loss)
    model = MemoryFamilyModel(schema, encoder, config, "released")
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
        prefix = "channel_att_" if encoder.memory.step.keyed else "att_"
        golden_models.assign_unit(encoder.attention.unit, golden_files.weights(golden, prefix))
    if loss is not None:
        golden_dien.assign_click_net(loss.score, golden_files.weights(golden, "aux_"))
    slopes = {f"dice{n}_alpha": head[f"prelu{n}_alpha"] for n in (1, 2)}
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
            golden_files.assert_close(outputs[ours], golden[f"out_{theirs}"], 5e-5)
    losses = model.compute_losses(features, outputs)
    golden_files.assert_close(sum(losses.values()), golden["out_loss"])
    if "out_aux_loss" in golden:
        golden_files.assert_close(losses["auxiliary"], golden["out_aux_loss"])
        golden_files.assert_close(losses["utilization"] / golden["out_reg_loss"], 1.0, 1e-4)


@pytest.mark.parametrize(
    "stem", ["mimn_model_default", "mimn_model_full", "mimn_model_full_masked"]
)
def test_golden_steps_of_released_models(stem):
    golden = golden_files.load(stem)
    model, features = published(golden)
    history = model.embedding.history(features)
    memory = model.encoders[""].memory
    _, traces = memory(history.events, history.mask, traced=["memory", "output"])
    golden_files.assert_close(traces["memory"], golden["out_per_step_M"])
    golden_files.assert_close(traces["output"], golden["out_per_step_output"])


def test_the_ablations_of_table_4_are_settings():
    features = make_batch()
    plain = MIMN(make_schema(), BACKBONE, utilization_weight=0.0, top_k=0)
    balanced = MIMN(make_schema(), BACKBONE, top_k=0)
    whole = MIMN(make_schema(), BACKBONE)
    assert plain.auxiliary_loss_names == []
    assert balanced.auxiliary_loss_names == whole.auxiliary_loss_names == ["utilization"]
    assert "channels" not in balanced(features)
    assert whole(features)["channels"].shape == [len(features["label"]), 8, 6]


@pytest.mark.parametrize("slots", [4, 6, 8])
def test_the_state_does_not_grow_with_the_history(slots):
    model = MIMN(make_schema(), BACKBONE, slots=slots)
    sizes = [
        {name: value.shape for name, value in model.encode_user(make_batch(time=time)).items()}
        for time in (3, 19)
    ]
    assert sizes[0] == sizes[1]
    assert sizes[0]["memory"] == [4, slots, 6]


def test_the_auxiliary_loss_is_left_out_unless_asked_for():
    asked = MIMN(make_schema(), BACKBONE, slots=3, auxiliary_weight=0.5)
    features = make_batch()
    assert "loss/auxiliary" in asked(features)
    assert "loss/auxiliary" not in MIMN(make_schema(), BACKBONE, slots=3)(features)


def test_the_released_unit_updates_one_channel():
    with pytest.raises(ValueError, match="one channel; got top_k=2"):
        MIMN(make_schema(), BACKBONE, "released", top_k=2)


def test_rums_released_cell_has_no_slot_keys():
    encoder = RUM(make_schema(), BACKBONE, "released").encoders[""]
    assert isinstance(encoder.memory, ReleasedTuringMemory)
    assert not encoder.memory.step.keyed
    assert not np.any(["keys" in v.name for v in encoder.memory.trainable_variables])
