"""States nested by encoder, and histories that are values: what reading them must not change."""

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.layers.events import embed_history
from dgin_tf.layers.search.hard import HardSearch
from dgin_tf.layers.search.readers import MeanReader
from dgin_tf.layers.search.unit import SearchedInterest
from dgin_tf.models.base import CTRModel, ModelConfig
from tests.conformance.catalogue import batch, build
from tests.prepared import make_schema


def searching(user_fields=(), names=("interest",)):
    encoders = {name: SearchedInterest(HardSearch(3), MeanReader(), name=name) for name in names}
    return CTRModel(make_schema(), encoders, ModelConfig(5, user_fields, (7,)))


def test_a_single_search_encoder_beside_a_user_field_folds_events():
    model, features = searching(user_fields=("user_id",)), batch()
    state = model.update_user(model.encode_user(features), features)
    assert set(state) == {"interest", "user"}
    twice = 2 * features["hist_mask"].shape[1]
    assert state["interest"]["mask"].shape[1] == twice


def test_encoders_whose_names_begin_alike_keep_their_states_apart():
    model, features = searching(names=("long", "long_term")), batch()
    state = model.update_user(model.encode_user(features), features)
    assert set(state) == {"long", "long_term"}
    tf.nest.assert_same_structure(state["long"], state["long_term"])
    np.testing.assert_array_equal(model.score(state, features)["logits"].shape, [4, 3])


def test_no_encoder_may_take_the_name_of_the_users_own_state():
    with pytest.raises(ValueError, match="no encoder may be called 'user'"):
        searching(names=("user",))


def test_a_look_at_embedded_events_leaves_every_table_its_gradient():
    model, features = build("dien"), batch()
    look = embed_history(model.embedding.history(features), tf.float32)
    assert np.all(np.isfinite(look.events))
    with tf.GradientTape() as tape:
        history = embed_history(model.embedding.history(features), tf.float32)
        state = model.encoders["interest"].encode(history)
        total = tf.add_n([tf.reduce_sum(t) for t in tf.nest.flatten(state) if t.dtype.is_floating])
    tables = [table for name, table in model.embedding.tables.items() if name != "user_id"]
    assert all(gradient is not None for gradient in tape.gradient(total, tables))


def test_encoding_in_a_graph_leaves_nothing_symbolic_in_a_history():
    model, features = build("dien"), batch()
    history = model.embedding.history(features)

    @tf.function(autograph=False)
    def encode():
        return model.encoders["interest"].encode(embed_history(history, tf.float32))

    encode()
    assert history.events is None
    events = embed_history(history, tf.float32).events
    assert np.all(np.isfinite(events.numpy()))
