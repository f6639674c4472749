"""DMT, TEM4CTR, NINN and DMBIN on a log of several behavior types, and on one of a single type."""

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.layers.events import embed_history
from dgin_tf.layers.multi_head_attention import head_kernel
from dgin_tf.models.baselines.ninn import NINN
from dgin_tf.models.registry import make_model
from tests.conformance.catalogue import BACKBONE, SMALL, batch
from tests.models.test_searching_models import with_behavior_types
from tests.oracles import dgin, multi_behavior
from tests.prepared import make_schema

SCHEMA, FEATURES = with_behavior_types()
VIEW, CART, BUY = 2, 3, 4
NAMES = ("dmbin", "dmt", "ninn", "tem4ctr")
every_model = pytest.mark.parametrize("name", NAMES)


def build(name, schema=SCHEMA, features=FEATURES, **settings):
    model = make_model(name, schema, BACKBONE, **{**SMALL[name], **settings})
    model(features)
    random = np.random.default_rng(1)
    for variable in model.trainable_variables:
        variable.assign(random.normal(0, 0.4, variable.shape))
    return model


def interest_of(model, features=FEATURES):
    """An only encoder's state and its interest."""
    state = model.encode_user(features)["interest"]
    found = model.encoders["interest"].interest(state, model.embedding.target(features))
    return state, found["interest"].numpy()


def events_of(model, features=FEATURES):
    """The embedded history of a batch."""
    return embed_history(model.embedding.history(features), tf.float32).events


def layers_of(attention):
    """Kernel and bias of every layer of an activation unit."""
    unit = attention.unit
    first = (unit.kernel.numpy(), unit.bias.numpy())
    return [first, *((dense.kernel.numpy(), dense.bias.numpy()) for dense in unit.dense)]


@every_model
def test_every_weight_learns_from_several_types(name):
    model = build(name)
    with tf.GradientTape() as tape:
        losses = model.compute_losses(FEATURES, model(FEATURES, training=True))
        loss = tf.add_n(list(losses.values()))
    gradients = tape.gradient(loss, model.trainable_variables)
    dead = [
        variable.name
        for variable, gradient in zip(model.trainable_variables, gradients, strict=True)
        if gradient is None or not (np.any(tf.convert_to_tensor(gradient)) or variable.shape == [1])
    ]
    assert dead == []
    assert ("contrast" in losses) == (name == "dmbin")


@every_model
def test_a_stored_state_scores_as_the_whole_call_does(name):
    model = build(name)
    user = {k: v for k, v in FEATURES.items() if k.startswith(("hist_", "user_"))}
    found = model.score(model.encode_user(user), FEATURES)["logits"]
    np.testing.assert_allclose(found, model(FEATURES)["logits"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["dmbin", "dmt", "tem4ctr"])
def test_types_matter_and_unknown_ones_are_nobodys(name):
    model = build(name)
    expected = model(FEATURES)["logits"].numpy()[0]
    swapped = {**FEATURES, "hist_behavior_type": 6 - FEATURES["hist_behavior_type"]}
    assert np.any(np.abs(model(swapped)["logits"][0] - expected) > 1e-4)
    unknown = {**FEATURES, "hist_behavior_type": tf.ones_like(FEATURES["hist_behavior_type"])}
    empty = {**FEATURES, "hist_mask": tf.zeros_like(FEATURES["hist_mask"])}
    np.testing.assert_array_equal(model(unknown)["logits"], model(empty)["logits"])


@pytest.mark.parametrize("name", ["dmbin", "dmt", "tem4ctr"])
def test_a_click_by_another_name_is_refused(name):
    with pytest.raises(ValueError, match=r"\['view', 'cart', 'buy'\].*got \['look'\]"):
        make_model(name, SCHEMA, BACKBONE, click="look")


def test_clicks_have_the_long_sequence():
    model = build("dmt", click="cart")
    lengths = {name: encoder.events for name, encoder in model.encoders.items()}
    assert lengths == {f"type{CART}": 4, f"type{VIEW}": 3, f"type{BUY}": 3}


def test_one_event_of_a_type_has_all_of_the_decoders_attention():
    model = build("dmt")
    types = np.full(FEATURES["hist_mask"].shape, VIEW)
    types[0, 3] = CART
    features = {**FEATURES, "hist_behavior_type": tf.constant(types, tf.int32)}
    outputs = model(features)
    attention = outputs["outputs"][f"type{CART}"]["attention"].numpy()
    # On some processors TensorFlow's softmax of one number is one less a bit.
    np.testing.assert_allclose(attention[0, ..., 0], 1.0, rtol=1.2e-7)
    assert not np.any(attention[1:])
    encoder = model.encoders[f"type{CART}"]
    interest = encoder.interest(outputs["state"][f"type{CART}"], model.embedding.target(features))[
        "interest"
    ]
    assert np.any(interest[0])
    assert not np.any(interest[1:])


def test_the_encoder_of_a_type_reads_its_newest_events_at_their_places():
    model = build("dmt")
    encoder = model.encoders[f"type{VIEW}"]
    state = encoder.encode(model.embedding.history(FEATURES))
    events = events_of(model).numpy()
    is_view = FEATURES["hist_mask"].numpy() & (FEATURES["hist_behavior_type"].numpy() == VIEW)
    for user, views in enumerate(is_view):
        places = np.flatnonzero(views)[::-1][:4]
        assert np.sum(state["mask"][user]) == len(places)
        if len(places):
            given = events[user, places] + encoder.positions.table.numpy()[: len(places)]
            expected = encoder.encoder(given[None], np.ones((1, len(places)), bool))[0]
            np.testing.assert_allclose(
                state["events"][user, : len(places)], expected, rtol=1e-3, atol=1e-5
            )


def test_clicks_are_read_with_what_is_around_them():
    model = build("tem4ctr")
    encoder = model.encoders["interest"]
    _, found = interest_of(model)
    events = events_of(model).numpy()
    target = model.embedding.target(FEATURES).embedding.numpy()
    real = FEATURES["hist_mask"].numpy()
    kinds = FEATURES["hist_behavior_type"].numpy()
    align, click, around = (
        layers_of(layer)
        for layer in (encoder.alignment, encoder.click_attention, encoder.around_attention)
    )
    aligned = 0
    for user in range(len(real)):
        clicks = np.flatnonzero(real[user] & (kinds[user] == VIEW))[-encoder.clicks :]
        others = real[user] & (kinds[user] > VIEW)
        keys, sums = [], []
        for place in clicks:
            near = multi_behavior.nearest(place, others, encoder.nearest)
            aligned += len(near)
            own = events[user, place]
            summary = multi_behavior.attended(own, events[user, near], align)
            sums.append(summary)
            keys.append(own + multi_behavior.project(summary, own))
        for candidate, query in enumerate(target[user]):
            expected = [
                multi_behavior.attended(query, np.array(values), layers)
                for values, layers in ((keys, click), (sums, around))
            ]
            np.testing.assert_allclose(
                found[user, candidate], np.concatenate(expected), rtol=1e-3, atol=1e-4
            )
    assert aligned


def test_one_type_alone_is_din_with_a_softmax():
    model = build("tem4ctr", make_schema(), batch(), clicks=50)
    _, found = interest_of(model, batch())
    encoder = model.encoders["interest"]
    events = events_of(model, batch())
    target = model.embedding.target(batch()).embedding
    weights = encoder.click_attention(target, events, batch()["hist_mask"])
    np.testing.assert_allclose(found, weights @ events, rtol=1e-4, atol=1e-5)


def test_neither_repetitions_nor_the_order_matter_to_parts():
    model = build("ninn")
    _, expected = interest_of(model)
    turned = {
        name: tf.tile(value[:, ::-1], [1, 2]) if name.startswith("hist_") else value
        for name, value in FEATURES.items()
    }
    _, found = interest_of(model, turned)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


def test_parts_are_summed_named_and_read():
    model = build("ninn", parts=2)
    encoder, target = model.encoders["interest"], model.embedding.target(FEATURES)
    _, found = interest_of(model)
    events = events_of(model).numpy()
    names = events[..., BACKBONE.embedding_dim :] @ encoder.naming.kernel.numpy()
    items, categories, mask = (
        FEATURES[f"hist_{name}"].numpy() for name in ("item_id", "category_id", "mask")
    )
    weights = encoder.weighing(target.embedding, events, mask, target.mask).numpy()
    attention = encoder.attention
    kernels = [
        head_kernel(getattr(attention, f"{part}_kernel"), attention.heads, "float32").numpy()
        for part in ("query", "key", "value", "output")
    ]
    rests = 0
    for user in range(len(mask)):
        kept, rest = multi_behavior.parts(items[user], categories[user], mask[user], 2)
        rests += len(rest)
        for candidate, query in enumerate(target.embedding.numpy()[user]):
            own = weights[user, candidate]
            tokens = [own[p] @ events[user, p] + names[user, p[0]] for p in kept.values()]
            tokens += [own[rest] @ events[user, rest]] if rest else []
            if not tokens:
                assert not np.any(found[user])
                continue
            tokens = np.array(tokens)[None, None].astype(np.float32)
            encoded = encoder.encoder(tokens, np.ones(tokens.shape[:3], bool)).numpy()[0, 0]
            expected = dgin.target_attention(query, encoded, *kernels)
            np.testing.assert_allclose(found[user, candidate], expected, rtol=1e-3, atol=1e-4)
    assert rests


def test_parts_of_a_field_that_candidates_lack_are_refused():
    with pytest.raises(ValueError, match="one of .*got 'behavior_type'"):
        NINN(SCHEMA, BACKBONE, field="behavior_type")


def test_swapping_two_types_swaps_what_is_common_to_them_and_changes_what_is_special():
    model = build("dmbin", clicks=3)
    state, _ = interest_of(model)
    kinds = FEATURES["hist_behavior_type"]
    swapped = tf.where(kinds < BUY, VIEW + CART - kinds, kinds)
    other, _ = interest_of(model, {**FEATURES, "hist_behavior_type": swapped})
    for mine, theirs in ((0, 1), (1, 0), (2, 2)):
        np.testing.assert_array_equal(other[f"common{mine}"], state[f"common{theirs}"])
    assert np.any(np.abs(other["specific0"] - state["specific1"]) > 1e-3)


def test_without_its_weight_the_contrast_leaves_no_trace():
    model = build("dmbin", contrast_weight=0.0)
    assert model.auxiliary_loss_names == []
    assert "contrast" not in model(FEATURES)["losses"]


def test_one_type_has_no_pairs_and_no_fusion():
    model = build("dmbin", make_schema(), batch())
    assert model.auxiliary_loss_names == []
    assert not any("fusion" in variable.name for variable in model.trainable_variables)


@pytest.mark.slow
def test_two_replicas_compare_the_users_of_both(mirrored):
    single = build("dmbin")
    with mirrored.scope():
        double = build("dmbin")
    data = tf.data.Dataset.from_tensors(FEATURES)
    for model in (single, double):
        with (mirrored if model is double else tf.distribute.get_strategy()).scope():
            model.compile(optimizer=tf.keras.optimizers.SGD(0.5))
        model.fit(data, verbose=0)
    for found, wanted in zip(double.trainable_variables, single.trainable_variables, strict=True):
        np.testing.assert_allclose(
            found.numpy(), wanted.numpy(), rtol=1e-4, atol=1e-5, err_msg=wanted.name
        )
