"""What signatures do with padding, unknown ids, empty histories and wrong shapes."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.layers.interest_encoder import InterestEncoder
from dgin_tf.models.base import CTRModel
from dgin_tf.records import decode_record, encode_record, read_records
from dgin_tf.schema import HISTORY, Field
from dgin_tf.serving.export.signatures import signature_specs, trace_signatures
from tests.prepared import CATEGORIES, ITEMS, make_schema
from tests.serving.exported import export


@pytest.fixture(scope="module")
def call(din):
    signatures = tf.saved_model.load(str(din.version)).signatures

    def run(signature, inputs):
        specs = signature_specs(signatures[signature])[0]
        arguments = {name: tf.constant(inputs[name], spec.dtype) for name, spec in specs.items()}
        return {name: value.numpy() for name, value in signatures[signature](**arguments).items()}

    return run


def scores(call, batch):
    return call("serving_default", batch)["probabilities"]


def changed(batch, prefix, function):
    return {k: function(v) if k.startswith(prefix) else v for k, v in batch.items()}


def test_padding_at_the_front_at_the_end_or_at_both_scores_alike(call, din):
    batch = din.batch
    reference = scores(call, batch)
    for front, end in ((7, 0), (0, 5), (3, 2)):
        padded_batch = changed(batch, "hist_", lambda v, w=(front, end): np.pad(v, ((0, 0), w)))
        np.testing.assert_allclose(scores(call, padded_batch), reference, atol=1e-6)


def test_other_fields_under_padding_change_nothing(call, din):
    batch = dict(din.batch)
    junk = np.where(batch["hist_mask"], batch["hist_category_id"], 5)
    np.testing.assert_array_equal(
        scores(call, {**batch, "hist_category_id": junk}), scores(call, batch)
    )


@pytest.mark.parametrize("outside", [ITEMS, 2**31 - 1, -1])
def test_an_id_outside_the_vocabulary_is_the_unknown_id(call, din, outside):
    batch = din.batch
    at = batch["hist_mask"] & (batch["hist_item_id"] % 3 == 0)
    unknown = {**batch, "hist_item_id": np.where(at, 1, batch["hist_item_id"])}
    beyond = {**batch, "hist_item_id": np.where(at, outside, batch["hist_item_id"])}
    np.testing.assert_array_equal(scores(call, beyond), scores(call, unknown))


def test_an_unknown_candidate_category_is_the_unknown_id(call, din):
    batch = din.batch
    beyond, unknown = (
        {**batch, "cand_category_id": np.full_like(batch["cand_category_id"], category)}
        for category in (CATEGORIES + 3, 1)
    )
    np.testing.assert_array_equal(scores(call, beyond), scores(call, unknown))


def test_an_empty_history_scores_without_attention(call, din):
    empty = changed(din.batch, "hist_", np.zeros_like)
    actual = scores(call, empty)
    assert np.all(np.isfinite(actual))
    width_one = changed(din.batch, "hist_", lambda v: np.zeros_like(v[:, :1]))
    np.testing.assert_allclose(actual, scores(call, width_one), atol=1e-6)


def test_one_state_scores_any_number_of_candidates(call, din):
    one = {name: value[:1] for name, value in din.batch.items()}
    many = changed(one, "cand_", lambda v: np.tile(v, (1, 71)))
    state = call("encode_user", one)
    actual = call("score_candidates", {**many, **state})["probabilities"]
    np.testing.assert_allclose(actual, np.tile(scores(call, one), (1, 71)), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hist_category_id", "hist_category_id must have the shape of hist_item_id"),
        ("cand_category_id", "cand_category_id must have the shape of cand_item_id"),
    ],
)
def test_features_of_different_lengths_are_refused_by_name(call, din, name, message):
    short = {**din.batch, name: din.batch[name][:, :-1]}
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        scores(call, short)


def test_states_and_candidates_of_different_users_are_refused(call, din):
    state = call("encode_user", {k: v[:5] for k, v in din.batch.items()})
    with pytest.raises(tf.errors.InvalidArgumentError, match="of as many users"):
        call("score_candidates", {**din.batch, **state})


def test_records_without_candidates_and_with_many_share_a_batch(call, din, data):
    full, other = list(read_records(din.records))[:2]
    record = decode_record(data.schema, other)
    none = {k: v[:0] if k.startswith(("cand_", "label")) else v for k, v in record.items()}
    examples = np.array([encode_record(data.schema, none), full], dtype=object)
    both = call("predict_examples", {"examples": examples})["probabilities"]
    alone = call("predict_examples", {"examples": examples[1:]})["probabilities"]
    np.testing.assert_allclose(both[1:], alone, atol=1e-6)
    assert np.isfinite(both).all()


class Clash(InterestEncoder):
    """An encoder whose state, flattened under the name `hist`, is called as a feature is."""

    def encode(self, history, training=False):
        return {"sum": tf.reduce_sum(history.events, axis=1)}

    def interest(self, state, target, training=False):
        return {"interest": state["sum"][:, None] * target.embedding}


def test_a_state_named_as_a_feature_is_refused():
    schema = make_schema()
    fields = (*schema.fields, Field("_sum", (HISTORY,)))
    model = CTRModel(dataclasses.replace(schema, fields=fields), {"hist": Clash()})
    with pytest.raises(ValueError, match=r"must not be named as features are; rename \['hist__sum"):
        trace_signatures(model, 19)


def test_half_precision_models_give_and_take_float32_states(data, tmp_path):
    policy = tf.keras.mixed_precision.global_policy()
    tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        bundle_export = export("din", data, tmp_path)
    finally:
        tf.keras.mixed_precision.set_global_policy(policy)
    signatures = tf.saved_model.load(str(bundle_export.version)).signatures
    for function in signatures.values():
        inputs, outputs = signature_specs(function)
        types = {spec.dtype for spec in (*inputs.values(), *outputs.values())}
        assert not types & {tf.bfloat16, tf.float16}
