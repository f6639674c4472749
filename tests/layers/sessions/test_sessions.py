"""DSIN's layers against its equations and against the numbers of its published code."""

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.layers.events import History
from dgin_tf.layers.sessions.bi_lstm import BiLSTM
from dgin_tf.layers.sessions.bias_encoding import BiasEncoding
from dgin_tf.layers.sessions.session_interest import SessionInterest
from dgin_tf.layers.sessions.transformer import SessionTransformer
from dgin_tf.layers.state_attention import BilinearAttention
from dgin_tf.layers.target_attention import ActivationUnit, TargetAttention, attend
from dgin_tf.released.dsin import ReleasedSessionTransformer
from tests import golden_files
from tests.models.golden_models import assign_dense
from tests.oracles import dsin

USERS, SESSIONS, TIME, DIM, HEADS = 3, 2, 5, 6, 3
LENGTHS = np.array([[5, 2], [1, 3], [4, 0]])
MASK = np.arange(TIME) < LENGTHS[..., None]
RNG = np.random.default_rng(11)
EVENTS = RNG.normal(size=(USERS, SESSIONS, TIME, DIM)).astype(np.float32)


def randomize(layer):
    for variable in layer.trainable_variables:
        variable.assign(RNG.normal(0, 0.5, variable.shape))
    return layer


def weights_of(layer):
    return [variable.numpy() for variable in layer.weights]


def assign_cells(layer, weights):
    """`fw<i>_*` and `bw<i>_*` of a golden file."""
    for number, cells in enumerate(layer.cells, start=1):
        for way, cell in zip(("fw", "bw"), cells, strict=True):
            for part, value in cell.items():
                value.assign(weights[f"{way}{number}_{part}_ifco"])


@pytest.mark.parametrize("scale_by_head", [False, True])
def test_a_session_is_read_by_equations_4_to_6(scale_by_head):
    layer = SessionTransformer(HEADS, scale_by_head)
    layer(EVENTS, MASK)
    found = randomize(layer)(EVENTS, MASK).numpy()
    units = DIM // HEADS
    kernels = [kernel.numpy().reshape(HEADS, units, units) for kernel in layer.kernels]
    feed = layer.feed_forward
    ffn = [*weights_of(feed.hidden), *weights_of(feed.output_layer)]
    parts = layer.output_kernel.numpy(), weights_of(layer.norm), ffn, weights_of(feed.norm)
    for user, session in zip(*np.nonzero(LENGTHS), strict=True):
        events = EVENTS[user, session, : LENGTHS[user, session]]
        expected = dsin.session_interest(events, kernels, *parts, units if scale_by_head else DIM)
        np.testing.assert_allclose(found[user, session], expected, rtol=1e-3, atol=1e-5)
    assert not np.any(found[2, 1])  # of the session without events


def test_the_order_in_a_session_matters_by_the_bias_encoding_alone():
    layer, encoding, order = SessionTransformer(HEADS), BiasEncoding(), [2, 0, 1, 4, 3]
    events, mask = EVENTS[:1, :1], MASK[:1, :1]
    expected = layer(events, mask)
    found = layer(events[:, :, order], mask)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    encoding(events)
    randomize(encoding)
    found, expected = (layer(encoding(e), mask) for e in (events[:, :, order], events))
    assert np.any(np.abs(found - expected) > 1e-3)


def test_a_bias_is_a_number_for_a_session_a_place_and_a_channel():
    layer = BiasEncoding()
    layer(EVENTS)
    bias = (randomize(layer)(EVENTS) - EVENTS).numpy()[0]
    for axis in range(3):  # how two differ on one axis does not depend on the others
        difference = np.moveaxis(bias, axis, 0)[0] - np.moveaxis(bias, axis, 0)[1]
        np.testing.assert_allclose(difference, difference.flat[0], atol=1e-5)
        assert abs(difference.flat[0]) > 1e-2


def test_golden_dsin_bias_encoding():
    golden = golden_files.load("dsin_bias_encoding")
    layer, sessions = BiasEncoding(), golden["in_sessions"]
    layer(sessions)
    layer.session.assign(golden["w_sess_bias_embedding"])
    layer.position.assign(golden["w_seq_bias_embedding"])
    layer.channel.assign(golden["w_item_bias_embedding"])
    golden_files.assert_close(layer(sessions), golden["out_sessions"])


@pytest.mark.parametrize(
    ("case", "settings"),
    [
        ("dsin_default_posenc", {"positions": True}),
        ("no_posenc", {}),
        ("no_posenc_noblind", {"blinding": False}),
        ("no_posenc_noblind_layernorm_seq", {"blinding": False, "layer_norm": True}),
    ],
)
def test_golden_dsin_transformer(case, settings):
    golden = golden_files.load("dsin_transformer")
    weights = golden_files.weights(golden, f"{case}_")
    layer = ReleasedSessionTransformer(int(golden["cfg_heads"]), **settings)
    rows, mask = golden["in_x"], golden["in_mask"] > 0
    layer(rows[:, None], mask[:, None])
    for kernel, name in zip(layer.kernels, ("query", "key", "value"), strict=True):
        kernel.assign(weights[name])
    layer.hidden.assign(weights["fw1"])
    layer.output_kernel.assign(weights["fw2"])
    if layer.positions:
        for table, name in zip(layer.tables, ("", "_1"), strict=True):
            table.assign(weights[f"position_encoding{name}_lookup_table"])
    if layer.norm is not None:
        layer.norm.gamma.assign(weights["layer_normalization_gamma"])
        layer.norm.beta.assign(weights["layer_normalization_beta"])
        golden_files.assert_close(layer.refine(rows, mask), golden[f"out_{case}"])
    else:
        golden_files.assert_close(layer(rows[:, None], mask[:, None]), golden[f"out_{case}"])


@pytest.mark.parametrize(
    ("case", "settings"),
    [
        ("ave_2layers", {"merge": "mean"}),
        ("concat_2layers_res1", {"residual_layers": 1}),
        ("sum_1layer", {"merge": "sum"}),
    ],
)
def test_golden_dsin_bilstm(case, settings):
    golden = golden_files.load("dsin_bilstm")
    weights = golden_files.weights(golden, f"{case}_")
    layers = sum(name.startswith("fw") and name.endswith("_bias_ifco") for name in weights)
    units = len(weights["fw1_recurrent_kernel_ifco"])
    layer = BiLSTM(units, layers, peepholes=False, **settings)
    layer(golden["in_x"])
    assign_cells(layer, weights)
    golden_files.assert_close(layer(golden["in_x"]), golden[f"out_{case}"])


@pytest.mark.parametrize("softmax", [True, False])
def test_golden_dsin_activation_attention(softmax):
    golden = golden_files.load("dsin_activation_attention")
    case = "softmax" if softmax else "raw"
    weights = golden_files.weights(golden, f"{case}_")
    # All layers named dense<i> are hidden ones here; the output is out.
    names = sorted(name.removesuffix("_bias") for name in weights if name.endswith("_bias"))
    units = tuple(len(weights[f"{name}_bias"]) for name in names[:-1])
    layer = TargetAttention(ActivationUnit(units, "sigmoid"), softmax=softmax)
    query, keys = golden["in_query"], golden["in_keys"]
    mask = np.arange(keys.shape[1]) < golden["in_keys_length"][:, None]
    layer(query, keys, mask)
    layer.unit.kernel.assign(weights["dense1_kernel"])
    layer.unit.bias.assign(weights["dense1_bias"])
    for dense, name in zip(layer.unit.dense, names[1:], strict=True):
        assign_dense(dense, weights, name)
    found = layer(query, keys, mask)
    is_real = np.any(
        mask, axis=1
    )  # where nothing is, the published softmax is uniform over padding
    golden_files.assert_close(found.numpy()[is_real, 0], golden[f"out_{case}_scores"][is_real])
    pooled = attend(found, tf.constant(keys)).numpy()[:, 0]
    golden_files.assert_close(pooled[is_real], golden[f"out_{case}"][is_real])
    assert not np.any(pooled[~is_real])


@pytest.mark.parametrize("peepholes", [True, False])
def test_sessions_are_read_both_ways_by_equations_7_and_8(peepholes):
    layer, units = BiLSTM(4, peepholes=peepholes), 4
    inputs = RNG.normal(size=(3, 7, DIM)).astype(np.float32)
    lengths = np.array([7, 3, 1])
    mask = np.arange(7) < lengths[:, None]
    layer(inputs, mask)
    found = randomize(layer)(inputs, mask).numpy()
    cells = [{name: value.numpy() for name, value in cell.items()} for cell in layer.cells[0]]
    for user, length in enumerate(lengths):
        for way, cell in enumerate(cells):
            step = -1 if way else 1
            cell = {"peepholes": np.zeros((3, units)), **cell}
            expected = dsin.lstm(inputs[user, :length][::step], **cell)[::step]
            own = found[user, :length, way * units : (way + 1) * units]
            np.testing.assert_allclose(own, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("heads", [0, 4])
@pytest.mark.parametrize("kind", [SessionTransformer, ReleasedSessionTransformer])
def test_heads_that_are_no_slices_are_refused(kind, heads):
    with pytest.raises(ValueError, match=f"got {heads}"):
        kind(heads)(EVENTS, MASK)


@pytest.mark.parametrize("settings", [{"merge": "max"}, {"layers": 0}])
def test_other_stacks_are_refused(settings):
    with pytest.raises(ValueError, match="at least one layer"):
        BiLSTM(**settings)


def test_without_a_mask_every_event_of_a_session_is_real():
    layer = SessionTransformer(HEADS)
    np.testing.assert_array_equal(layer(EVENTS), layer(EVENTS, np.ones_like(MASK)))


def test_session_interests_are_computed_from_embedded_events_in_a_notebook():
    attentions = BilinearAttention(DIM), BilinearAttention(8)
    encoder = SessionInterest(
        SessionTransformer(HEADS), BiLSTM(4), attentions, sessions=SESSIONS, events=TIME, gap=60
    )
    # Two sessions of two events; the newest one comes first.
    times = np.array([[10, 20, 500, 510]])
    events = EVENTS[:1, 0, :4]
    history = History(tf.constant(events), tf.constant(times > 0), {"timestamp": times})
    outputs = encoder(EVENTS[:1, 1, :3], history)
    sessions = np.zeros([1, SESSIONS, TIME, DIM], np.float32)
    sessions[0, 0, :2], sessions[0, 1, :2] = events[0, 2:], events[0, :2]
    mask = np.broadcast_to(np.arange(TIME) < 2, sessions.shape[:3])
    interests = encoder.extractor(sessions, mask)
    np.testing.assert_allclose(outputs["state"]["sessions"], interests, rtol=1e-4, atol=1e-6)
    first = attend(outputs["attention"], interests)
    np.testing.assert_allclose(outputs["interest"][..., :DIM], first, rtol=1e-4, atol=1e-6)
