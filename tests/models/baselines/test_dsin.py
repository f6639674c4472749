"""DSIN whole: sessions of a history, the published model's numbers, Eqs. (9) and (10)."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.layers.events import embed_history
from dgin_tf.models.base import ModelConfig
from dgin_tf.models.baselines.dsin import DSIN
from dgin_tf.models.registry import make_model
from dgin_tf.schema import CANDIDATE, HISTORY, Field
from tests import golden_files
from tests.conformance.catalogue import BACKBONE, SMALL, batch, build
from tests.layers.sessions.test_sessions import assign_cells
from tests.models import golden_models
from tests.oracles import dsin
from tests.prepared import make_schema

SETTINGS = {**SMALL["dsin"], "gap": 150_000}


def golden_features(golden):
    """Sessions of the file as one history: its first session is the newest one."""
    item, category = (
        golden[f"in_sess_{name}"][:, ::-1].reshape(len(golden["in_item"]), -1)
        for name in ("item", "cate")
    )
    sessions, length = golden["in_sess_item"].shape[1:]
    times = np.repeat(np.arange(sessions) * 10_000, length) + np.tile(np.arange(length), sessions)
    return {
        "user_id": tf.constant(golden["in_user"]),
        "hist_item_id": tf.constant(item),
        "hist_category_id": tf.constant(category),
        "hist_timestamp": tf.constant(np.broadcast_to(times, item.shape)),
        "hist_mask": tf.constant(item > 0),
        "cand_item_id": tf.constant(golden["in_item"][:, None]),
        "cand_category_id": tf.constant(golden["in_cate"][:, None]),
        "cand_mask": tf.ones([len(item), 1], tf.bool),
    }


@pytest.mark.parametrize("case", ["bias_encoding", "positional_encoding"])
def test_golden_dsin_model(case):
    golden = golden_files.load("dsin_model")
    weights = golden_files.weights(golden, f"{case}_")
    _, sessions, length = golden["in_sess_item"].shape
    items, dim = weights["emb_item"].shape
    schema = golden_models.schema(
        items, len(weights["emb_cate"]), len(weights["emb_user"]), sessions * length
    )
    times = Field("timestamp", (HISTORY, CANDIDATE))
    schema = dataclasses.replace(schema, fields=(*schema.fields, times))
    hidden_layers = sum(name.startswith("DNN_bias") for name in weights)
    units = tuple(len(weights[f"DNN_bias{layer}"]) for layer in range(hidden_layers))
    model = make_model(
        "dsin_released",
        schema,
        ModelConfig(dim, user_fields=(), tower_units=units),
        sessions=sessions,
        events=length,
        heads=int(golden["cfg_heads"]),
        bias_encoding=case == "bias_encoding",
    )
    features = golden_features(golden)
    encoder = model.encoders["interest"]
    target = model.embedding.target(features)
    encoder.interest(model.encode_user(features)["interest"], target)
    model.embedding.tables["item_id"].assign(weights["emb_item"])
    model.embedding.tables["category_id"].assign(weights["emb_cate"])
    extractor = encoder.extractor
    if case == "bias_encoding":
        for name, kind in (("session", "sess"), ("position", "seq"), ("channel", "item")):
            value = weights[f"BiasEncoding_{kind}_bias_embedding"]
            getattr(encoder.encoding, name).assign(value)
    else:
        for table, name in zip(extractor.tables, ("", "_1"), strict=True):
            table.assign(weights[f"Transformer_position_encoding{name}_lookup_table"])
    for kernel, name in zip(extractor.kernels, ("query", "key", "value"), strict=True):
        kernel.assign(weights[f"Transformer_{name}"])
    extractor.hidden.assign(weights["Transformer_fw1"])
    extractor.output_kernel.assign(weights["Transformer_fw2"])
    assign_cells(encoder.interacting, golden_files.weights(golden, f"{case}_BiLSTM_"))
    for number, attention in enumerate((encoder.attention, encoder.state_attention), start=1):
        own = golden_files.weights(golden, f"{case}_AttentionSequencePoolingLayer{number}_")
        attention.unit.kernel.assign(own["dense0_kernel"])
        attention.unit.bias.assign(own["dense0_bias"])
        golden_models.assign_dense(attention.unit.dense[0], own, "dense1")
        attention.unit.dense[1].kernel.assign(own["kernel"])
        attention.unit.dense[1].bias.assign(own["bias"])
    state = model.encode_user(features)["interest"]
    target = model.embedding.target(features)
    golden_files.assert_close(state["sessions"], golden[f"mid_{case}_session_interest"])
    golden_files.assert_close(state["states"], golden[f"mid_{case}_bilstm"])
    interest = encoder.interest(state, target)["interest"][:, 0]
    expected = [golden[f"mid_{case}_{kind}_attention"] for kind in ("interest", "lstm")]
    golden_files.assert_close(interest, np.concatenate(expected, axis=-1))
    # The published model also has a user of another width and a dense number, which join the head.
    user = weights["emb_user"][golden["in_user"]]
    parts = [user, target.embedding[:, 0], interest, golden["in_score"][:, None]]
    joined = tf.concat([tf.cast(part, tf.float32) for part in parts], axis=-1)[:, None]
    tower = model.config.tower()
    tower(joined)
    for layer, dense in enumerate(tower.hidden):
        dense.kernel.assign(weights[f"DNN_kernel{layer}"])
        dense.bias.assign(weights[f"DNN_bias{layer}"])
    tower.output_layer.kernel.assign(weights["Dense_kernel"])
    tower.output_layer.bias.assign(weights["PredictionLayer_global_bias"])
    found = tf.sigmoid(tower(joined)[:, 0])
    golden_files.assert_close(found, golden[f"out_{case}_y_pred"])


def test_the_newest_sessions_are_read_and_both_kinds_of_interest_attended_to():
    model, features = build("dsin"), batch()
    encoder = model.encoders["interest"]
    encoder.gap = SETTINGS["gap"]
    state = model.encode_user(features)["interest"]
    target = model.embedding.target(features)
    found = encoder.interest(state, target)["interest"].numpy()
    kernels = encoder.attention.kernel.numpy(), encoder.state_attention.kernel.numpy()
    dim = model.embedding.event_dim
    several = 0
    for user, mask in enumerate(features["hist_mask"].numpy()[:-1]):
        times = features["hist_timestamp"].numpy()[user, mask]
        events = embed_history(model.embedding.history(features), tf.float32).events.numpy()[user]
        sessions = dsin.sessions(times, SETTINGS["sessions"], SETTINGS["events"], SETTINGS["gap"])
        several += len(sessions) > 1 and max(map(len, sessions)) > 1
        given = np.zeros((1, SETTINGS["sessions"], SETTINGS["events"], dim), np.float32)
        real = np.zeros(given.shape[:-1], bool)
        for number, places in enumerate(sessions):
            given[0, number, : len(places)] = events[places]
            real[0, number, : len(places)] = True
        interests = encoder.extractor(encoder.encoding(given), real)
        states = encoder.interacting(interests, np.any(real, axis=-1))
        for candidate, query in enumerate(target.embedding.numpy()[user]):
            parts = [
                dsin.activated(query, keys.numpy()[0, : len(sessions)], kernel)
                for keys, kernel in zip((interests, states), kernels, strict=True)
            ]
            np.testing.assert_allclose(
                found[user, candidate], np.concatenate(parts), rtol=1e-3, atol=1e-5
            )
    assert several
    assert not np.any(found[-1])  # of the empty history


def test_one_session_is_the_interest_whatever_the_candidate():
    model, features = build("dsin"), batch()
    model.encoders["interest"].gap = 10**6
    found = model.encoders["interest"].interest(
        model.encode_user(features)["interest"], model.embedding.target(features)
    )
    # On some processors TensorFlow's softmax of one number is one less a bit.
    np.testing.assert_allclose(found["attention"][0, :, 0], 1.0, rtol=1.2e-7)
    interest = found["interest"].numpy()[0]
    np.testing.assert_allclose(interest, interest[:1].repeat(len(interest), axis=0), rtol=1e-6)


def test_a_schema_without_times_is_refused():
    schema = make_schema()
    bare = dataclasses.replace(schema, fields=schema.fields[:-1])
    with pytest.raises(ValueError, match="by the times of events; the schema has none"):
        DSIN(bare, BACKBONE)
