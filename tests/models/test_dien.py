"""DIEN and its ablations whole: the published models' numbers, losses, and what training reads."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.layers.auxiliary_loss import AuxiliaryLoss, click_net
from dgin_tf.layers.interest_evolution import InterestEvolution
from dgin_tf.layers.pooling import Pooling
from dgin_tf.layers.recurrent import AGRU, AUGRU, GRU
from dgin_tf.layers.state_attention import BilinearAttention, ProjectedAttention
from dgin_tf.models.base import CTRModel, ModelConfig
from dgin_tf.models.dien import DIEN, TwoLayerGRUAttentionModel
from dgin_tf.models.registry import MODELS, make_model
from dgin_tf.released.dien import (
    AGRUReleased,
    AIGRUReleased,
    DIENReleased,
    ReleasedAuxiliaryLoss,
)
from dgin_tf.released.recurrent import ReleasedAUGRU, ReleasedGRU
from dgin_tf.schema import negative_name
from tests import golden_files
from tests.conformance.catalogue import batch as make_batch
from tests.models import golden_dien, golden_models
from tests.prepared import make_schema

NAMES = ("dien", "augru", "agru", "aigru", "two_layer_gru_attention")
every_model = pytest.mark.parametrize("name", NAMES)
every_variant = pytest.mark.parametrize("name", [*NAMES, *(f"{name}_released" for name in NAMES)])
SMALL = ModelConfig(embedding_dim=3, tower_units=(5, 2))


@pytest.mark.parametrize(
    ("stem", "model_class"),
    [
        ("dien_model_augru_aux", DIENReleased),
        ("dien_model_aigru", AIGRUReleased),
        ("dien_model_agru", AGRUReleased),
    ],
)
def test_golden_released_models(monkeypatch, stem, model_class):
    golden = golden_files.load(stem)
    head = golden_files.weights(golden, "head_")
    items, dim = golden["w_emb_item"].shape
    schema = golden_models.schema(
        items, len(golden["w_emb_cate"]), len(golden["w_emb_uid"]), golden["in_mask"].shape[1]
    )
    config = ModelConfig(dim, tower_units=golden_files.hidden_units(head))
    units = len(golden["w_gru1_candidate_bias"])
    widths = golden_files.hidden_units(golden_files.weights(golden, "att_"))
    attention_class = functools.partial(ProjectedAttention, hidden_units=widths)
    monkeypatch.setattr(model_class, "attention_class", attention_class)
    model, features = model_class(schema, config, units), golden_models.batch(golden, "uid")
    for field, kind in (("item", "item"), ("category", "cate")):
        if f"in_noclick_{kind}_hist" in golden:  # of the sampled ones the first is used
            name = negative_name(f"hist_{field}_id")
            features[name] = tf.constant(golden[f"in_noclick_{kind}_hist"][:, :, 0])
    model(features)
    golden_models.assign_tables(model, *(golden[f"w_emb_{n}"] for n in ("item", "cate", "uid")))
    golden_dien.assign_released_encoder(model.interest_encoder, golden)
    golden_models.assign_released_head(model.tower, head)
    outputs = model(features)
    golden_files.assert_close(tf.sigmoid(outputs["logits"][:, 0]), golden["out_y_hat"][:, 0])
    losses = model.compute_losses(features, outputs)
    golden_files.assert_close(sum(losses.values()), golden["out_loss"])
    if "out_aux_loss" in golden:
        golden_files.assert_close(losses["auxiliary"], golden["out_aux_loss"])


@pytest.mark.parametrize("cell", [AUGRU, AGRU])
def test_golden_longctr_dien(cell):
    stem = f"longctr_dien_{cell.__name__.lower()}"
    golden = golden_files.load(stem)
    tower = golden_files.weights(golden, "dnn_")
    items, dim = golden["w_emb_item_id"].shape
    config = ModelConfig(
        embedding_dim=dim,
        user_fields=("user_id",),
        tower_units=golden_files.hidden_units(tower),
        activation="relu",
        normalization="none",
    )
    units = golden["mid_final_interest"].shape[-1]
    encoder = InterestEvolution(
        GRU(units, recurrent_bias=True), BilinearAttention(units), cell(units, recurrent_bias=True)
    )
    encoders = {"interest": encoder}
    # Without the sum, the head has user (one embedding), target (two) and interest.
    if golden["mid_head_input"].shape[1] > 3 * dim + units:
        encoders["sum"] = Pooling(product=True, count_padding=True)
    sizes = (items, len(golden["w_emb_cate_id"]), len(golden["w_emb_user_id"]))
    model = CTRModel(golden_models.schema(*sizes, golden["in_mask"].shape[1]), encoders, config)
    features = golden_models.batch(golden, "user")
    model(features)
    golden_models.assign_tables(model, *(golden[f"w_emb_{n}_id"] for n in ("item", "cate", "user")))
    golden_dien.assign_longctr_encoder(encoder, golden)
    golden_dien.assign_longctr_tower(model.tower, tower)
    outputs = model(features)
    mask = golden["in_mask"][..., None]
    states = outputs["state"]["interest"]["interest_states"]
    golden_files.assert_close(states * mask, golden["mid_interest_states"] * mask)
    interest = outputs["outputs"]["interest"]
    golden_files.assert_close(interest["attention"][:, 0], golden["mid_attention"])
    golden_files.assert_close(interest["interest"][:, 0], golden["mid_final_interest"])
    golden_files.assert_close(tf.sigmoid(outputs["logits"][:, 0]), golden["out_y_pred"])
    losses = model.compute_losses(features, outputs)
    golden_files.assert_close(losses["target"], golden["out_loss"])


@every_variant
def test_every_model_has_finite_losses_and_a_gradient_for_every_variable(name):
    model, features = MODELS[name](make_schema(), SMALL), make_batch()
    with tf.GradientTape() as tape:
        losses = model.compute_losses(features, model(features, training=True))
        loss = tf.add_n(list(losses.values()))
    assert set(losses) == {"target", "auxiliary"} & {"target", *model.auxiliary_loss_names}
    for gradient, variable in zip(
        tape.gradient(loss, model.trainable_variables), model.trainable_variables, strict=True
    ):
        assert gradient is not None, variable.name
        assert np.isfinite(tf.convert_to_tensor(gradient)).all(), variable.name


@every_variant
def test_scoring_a_stored_state_equals_the_whole(name):
    model, features = MODELS[name](make_schema(), SMALL), make_batch()
    found = model.score(model.encode_user(features), features)["logits"]
    np.testing.assert_allclose(found, model(features)["logits"], atol=1e-6)


@every_model
def test_a_stored_state_follows_newer_events(name):
    model, features = MODELS[name](make_schema(), SMALL), make_batch()
    expected = model(features)["logits"]
    cut = {n: (v[:, :2], v[:, 2:]) for n, v in features.items() if n.startswith("hist_")}
    older, newer = ({**features, **{n: v[i] for n, v in cut.items()}} for i in range(2))
    assert model.is_incremental
    found = model.score(model.update_user(model.encode_user(older), newer), features)["logits"]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_fitting_runs_and_reports_both_losses():
    model = DIEN(make_schema(), SMALL)
    model.compile(tf.keras.optimizers.Adam(0.01))
    data = tf.data.Dataset.from_tensors(make_batch()).repeat(3)
    history = model.fit(data, epochs=2, verbose=0).history
    assert set(history) == {"loss", "target", "auxiliary"}
    assert history["loss"][1] < history["loss"][0]


def test_without_negatives_there_is_no_auxiliary_loss():
    model, features = DIEN(make_schema(), SMALL), make_batch()
    for field in ("item_id", "category_id"):
        del features[negative_name(f"hist_{field}")]
    assert set(model.compute_losses(features, model(features))) == {"target"}


def test_the_weight_scales_the_auxiliary_loss_alone():
    features = make_batch()
    model = make_model("dien", make_schema(), SMALL, auxiliary_weight=1.0)
    once = model.compute_losses(features, model(features))
    model.interest_encoder.auxiliary_loss.weight = 2.0
    twice = model.compute_losses(features, model(features))
    np.testing.assert_allclose(twice["auxiliary"], 2 * once["auxiliary"], rtol=1e-6)
    np.testing.assert_array_equal(twice["target"], once["target"])


def test_the_papers_choices_and_the_releases_differ_where_the_ledger_says():
    paper, released = (
        model_class(make_schema(), SMALL).interest_encoder for model_class in (DIEN, DIENReleased)
    )
    assert (type(paper.extractor), type(paper.cell)) == (GRU, AUGRU)
    assert paper.cell.reset_after
    assert (type(released.extractor), type(released.cell)) == (ReleasedGRU, ReleasedAUGRU)
    assert not released.cell.reset_after
    assert (type(paper.attention), type(released.attention)) == (
        BilinearAttention,
        ProjectedAttention,
    )
    assert (paper.auxiliary_loss.reduce, paper.auxiliary_loss.score) == ("sum", None)
    assert type(released.auxiliary_loss) is ReleasedAuxiliaryLoss
    assert released.auxiliary_loss.score.units == (100, 50)


def test_the_inner_product_needs_states_as_wide_as_events():
    with pytest.raises(ValueError, match="width of an embedded event, 6; got 5"):
        DIEN(make_schema(), SMALL, units=5)
    loss = AuxiliaryLoss(0.5, click_net())
    model = DIEN(make_schema(), SMALL, units=5, auxiliary_loss=loss)
    assert model.interest_encoder.auxiliary_loss is loss


def test_settings_say_the_weight_of_the_auxiliary_loss():
    settings = {"auxiliary_weight": 0.25, "units": 6}
    for name, loss_class in (("dien", AuxiliaryLoss), ("dien_released", ReleasedAuxiliaryLoss)):
        model = make_model(name, make_schema(), SMALL, **settings)
        assert type(model.auxiliary_loss) is loss_class
        assert model.auxiliary_loss.weight == 0.25
        assert model.interest_encoder.extractor.units == 6


def test_the_weights_of_the_auxiliary_network_exist_without_negatives():
    model, features = DIENReleased(make_schema(), SMALL), make_batch()
    for field in ("item_id", "category_id"):
        del features[negative_name(f"hist_{field}")]
    assert model(features)["losses"] == {}
    assert model.auxiliary_loss.score.count_params()


def test_two_layers_may_have_any_width():
    model = TwoLayerGRUAttentionModel(make_schema(), SMALL, units=7)
    outputs = model(make_batch())
    assert outputs["state"]["interest"]["interest_states"].shape[-1] == 7
