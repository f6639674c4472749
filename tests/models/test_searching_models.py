"""SIM, ETA, SDIM, TWIN and UBR4CTR whole: what they are made of, who learns from what, bad input."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.layers.multi_head_history import MultiHeadHistory
from dgin_tf.layers.target_attention import AttendedHistory
from dgin_tf.models.registry import MODELS, make_model, settings
from dgin_tf.models.ubr4ctr import POLICY
from dgin_tf.schema import HISTORY, Field
from tests.conformance.catalogue import BACKBONE, SMALL, batch, build
from tests.prepared import make_schema

NAMES = ("eta", "sdim", "twin", "ubr4ctr", "sim_hard", "sim_soft")
BY_EMBEDDING = ("eta", "twin", "sim_soft")


def with_behavior_types():
    """A schema and a batch whose events have one of three behavior types."""
    schema = make_schema()
    field = Field("behavior_type", (HISTORY,), "behavior_type")
    schema = dataclasses.replace(
        schema,
        fields=(*schema.fields, field),
        vocabulary_sizes={**schema.vocabulary_sizes, "behavior_type": 5},
        behavior_types=("view", "cart", "buy"),
    )
    features = batch()
    types = np.random.default_rng(0).integers(2, 5, features["hist_mask"].shape)
    return schema, {**features, "hist_behavior_type": tf.constant(types, tf.int32)}


def policy_variables(model):
    return model.search.policy.trainable_variables


@pytest.mark.parametrize("name", NAMES)
def test_candidates_outside_the_vocabulary_have_finite_scores_that_a_state_gives_too(name):
    model, features = build(name), batch()
    for field in ("cand_item_id", "cand_category_id"):
        features[field] = tf.ones_like(features[field])
    logits = model(features)["logits"]
    assert np.all(np.isfinite(logits))
    stored = model.score(model.encode_user(features), features)["logits"]
    np.testing.assert_allclose(stored, logits, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_k_and_short_events_beyond_the_history_are_no_error(name):
    settings = {**SMALL[name], "short_events": 50}
    if "k" in settings:
        settings["k"] = 50
    model = make_model(name, make_schema(), BACKBONE, **settings)
    assert np.all(np.isfinite(model(batch())["logits"]))


def zero(variables):
    for variable in variables:
        variable.assign(tf.zeros_like(variable))


@pytest.mark.parametrize("name", NAMES)
def test_embeddings_of_zero_give_finite_scores_and_gradients(name):
    model, features = build(name), batch()
    zero(model.embedding.tables.values())
    with tf.GradientTape() as tape:
        losses = model.compute_losses(features, model(features, training=True))
        loss = tf.add_n(list(losses.values()))
    assert np.isfinite(loss)
    for gradient in tape.gradient(loss, model.trainable_variables):
        assert gradient is None or np.all(np.isfinite(tf.convert_to_tensor(gradient)))


@pytest.mark.parametrize("name", BY_EMBEDDING)
def test_of_events_that_tie_the_newest_are_found(name):
    model, features = build(name), batch()
    zero(model.trainable_variables)
    long = model(features)["outputs"]["interest"]["long"]
    older = int(features["hist_mask"].numpy()[0].sum()) - SMALL[name]["short_events"]
    k = SMALL[name]["k"]
    assert long["topk_mask"].numpy()[0].all()
    for candidate in long["topk_indices"].numpy()[0]:
        assert sorted(candidate) == list(range(older - k, older))


def test_the_policys_loss_reaches_the_policy_alone_and_the_targets_everything_else():
    model, features = build("ubr4ctr"), batch()
    for name, is_policys in (("target", False), (POLICY, True)):
        with tf.GradientTape() as tape:
            loss = model.compute_losses(features, model(features, training=True))[name]
        found = tape.gradient(loss, model.trainable_variables)
        reached = {
            v.ref() for v, g in zip(model.trainable_variables, found, strict=True) if g is not None
        }
        policys = {variable.ref() for variable in policy_variables(model)}
        assert reached == policys if is_policys else not reached & policys
        assert reached


def test_a_signature_is_twice_as_long_as_an_event_is_wide():
    assert make_model("eta", make_schema(), BACKBONE).search.bits == 2 * 2 * 3


def test_cross_features_are_what_the_schema_has():
    schema, _ = with_behavior_types()
    without_times = dataclasses.replace(
        schema, fields=tuple(f for f in schema.fields if f.name != "timestamp")
    )
    for given, wanted in (
        (make_schema(), {"gap"}),
        (schema, {"gap", "behavior_type"}),
        (without_times, {"behavior_type"}),
    ):
        assert set(make_model("twin", given, BACKBONE).long.cross_features) == wanted
    assert not make_model("twin_released", schema, BACKBONE).long.cross_features


def test_behavior_types_survive_folding_events_in():
    schema, features = with_behavior_types()
    model = make_model("twin", schema, BACKBONE, k=3, heads=2, short_events=2)
    expected = model(features)["logits"]
    history = {k: v for k, v in features.items() if k.startswith(("hist_", "user_"))}

    def part(times):
        return {k: v[:, times] if k.startswith("hist_") else v for k, v in history.items()}

    state = model.encode_user(part(slice(0, 3)))
    state = model.update_user(state, part(slice(3, None)))
    found = model.score(state, features)["logits"]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    other = tf.where(features["hist_behavior_type"] == 2, 3, 2)
    changed = model({**features, "hist_behavior_type": other})["logits"]
    assert not np.allclose(changed, expected)


READERS = {
    **dict.fromkeys(("eta", "eta_encode", "eta_ta", "sdim", "twin", "ubr4ctr"), "heads"),
    **dict.fromkeys(
        ("avg_pooling_long_din", "din_long", "encode", "sim_hard", "sim_soft", "sim_tm"), "din"
    ),
    **dict.fromkeys(("sim_hard_first_stage", "sim_soft_first_stage"), "din"),
}
READER_CLASSES = {"din": AttendedHistory, "heads": MultiHeadHistory}


def test_the_newest_events_are_read_as_in_each_paper_by_default():
    readers = {
        name: settings(name)["short_reader"].default
        for name in MODELS
        if "short_reader" in settings(name) and not name.endswith("_released")
    }
    assert readers == READERS


@pytest.mark.parametrize("reader", READER_CLASSES)
@pytest.mark.parametrize("name", READERS)
def test_every_model_of_long_histories_takes_either_reader_of_the_newest_events(name, reader):
    values = {**SMALL[name], "short_reader": reader, "softmax": True, "heads": 3}
    model = make_model(name, make_schema(), BACKBONE, **values)
    short = model.encoders["interest"].short
    assert type(short) is READER_CLASSES[reader]
    assert short.attention.heads == 3 if reader == "heads" else short.attention.softmax
    features = batch()
    logits = model(features)["logits"]
    stored = model.score(model.encode_user(features), features)["logits"]
    np.testing.assert_allclose(stored, logits, rtol=1e-5, atol=1e-5)


def test_an_unknown_reader_is_refused():
    with pytest.raises(ValueError, match="short_reader must be 'din' or 'heads'; got 'gru'"):
        make_model("eta", make_schema(), BACKBONE, short_reader="gru")
