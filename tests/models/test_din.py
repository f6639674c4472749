"""DIN whole: the published models' numbers, and the split into encode and score."""

import numpy as np
import tensorflow as tf

from dgin_tf.models.base import ModelConfig
from dgin_tf.models.din import DIN
from dgin_tf.released.din import DINReleased
from tests import golden_files
from tests.models import golden_models


def test_golden_din_model():
    golden = golden_files.load("din_model")
    head = golden_files.weights(golden, "head_")
    items, dim = golden["w_emb_item"].shape
    config = ModelConfig(dim, tower_units=golden_files.hidden_units(head))
    schema = golden_models.schema(
        items, len(golden["w_emb_cate"]), len(golden["w_emb_uid"]), golden["in_mask"].shape[1]
    )
    attention = golden_files.weights(golden, "att_")
    units = golden_files.hidden_units(attention)
    model, features = DINReleased(schema, config, units), golden_models.batch(golden, "uid")
    model(features)
    golden_models.assign_tables(model, *(golden[f"w_emb_{n}"] for n in ("item", "cate", "uid")))
    golden_models.assign_unit(model.encoders["interest"].attention.unit, attention)
    golden_models.assign_released_head(model.tower, head)
    outputs = model(features)
    golden_files.assert_close(tf.sigmoid(outputs["logits"][:, 0]), golden["out_y_hat"][:, 0])
    golden_files.assert_close(model.compute_losses(features, outputs)["target"], golden["out_loss"])


def test_golden_longctr_din():
    golden = golden_files.load("longctr_din")
    unit = golden_files.weights(golden, "attention_layers_attention_layer_")
    tower = golden_files.weights(golden, "dnn_")
    items, dim = golden["w_emb_item_id"].shape
    config = ModelConfig(
        embedding_dim=dim,
        user_fields=("user_id",),
        tower_units=golden_files.hidden_units(tower),
        activation="relu",
        normalization="none",
    )
    sizes = (items, len(golden["w_emb_cate_id"]), len(golden["w_emb_user_id"]))
    schema = golden_models.schema(*sizes, golden["in_mask"].shape[1])
    model = DIN(schema, config, units=golden_files.hidden_units(unit))
    features = golden_models.batch(golden, "user")
    model(features)
    golden_models.assign_tables(model, *(golden[f"w_emb_{n}_id"] for n in ("item", "cate", "user")))
    golden_models.assign_unit(model.encoders["interest"].attention.unit, unit)
    golden_models.assign_dice(model.encoders["interest"].attention.unit, unit)
    golden_models.assign_dense_layers(model.tower, tower)
    outputs = model(features)
    interest = outputs["outputs"]["interest"]["interest"]
    golden_files.assert_close(interest[:, 0], golden["mid_pooled_interest"])
    golden_files.assert_close(tf.sigmoid(outputs["logits"][:, 0]), golden["out_y_pred"])
    losses = model.compute_losses(features, outputs)
    golden_files.assert_close(losses["target"], golden["out_loss"])


def test_the_papers_choices_and_the_releases_differ_where_the_ledger_says():
    schema = golden_models.schema(7, 5, 3, 2)
    paper, released = DIN(schema), DINReleased(schema)
    attention = paper.encoders["interest"].attention
    assert (attention.softmax, attention.unit.units) == (False, (36,))
    attention = released.encoders["interest"].attention
    assert (attention.softmax, attention.unit.units) == (True, (80, 40))
    assert released.config.loss_scale == "official_half"


def test_attention_is_among_the_outputs():
    golden = golden_files.load("din_model")
    schema = golden_models.schema(13, 7, 11, golden["in_mask"].shape[1])
    outputs = DIN(schema)(golden_models.batch(golden, "uid"))["outputs"]["interest"]
    assert outputs["attention"].shape == (len(golden["in_item"]), 1, golden["in_mask"].shape[1])
    assert not np.any(outputs["attention"][:, 0][golden["in_mask"] == 0])
