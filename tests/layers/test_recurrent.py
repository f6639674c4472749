"""GRU, AIGRU, AGRU and AUGRU: the paper's equations, what must not matter, and public cells."""

import itertools
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.layers.memory.rum import KeyedMemory
from dgin_tf.layers.recurrent import AGRU, AIGRU, AUGRU, GRU
from dgin_tf.layers.sessions.bi_lstm import BiLSTM
from dgin_tf.released.recurrent import ReleasedAGRU, ReleasedAIGRU, ReleasedAUGRU, ReleasedGRU
from tests import golden_files, released_weights
from tests.oracles import dien

USERS, CANDIDATES, TIME, DIM, UNITS = 4, 3, 7, 5, 2
LENGTHS = np.array([7, 3, 1, 0])
MASK = np.arange(TIME) < LENGTHS[:, None]
RNG = np.random.default_rng(17)
EVENTS = RNG.normal(size=(USERS, TIME, DIM)).astype(np.float32)
SCORES = RNG.uniform(size=(USERS, CANDIDATES, TIME)).astype(np.float32)
EVOLVING = {AIGRU: dien.aigru, AGRU: dien.agru, AUGRU: dien.augru}
cells = pytest.mark.parametrize("cell", EVOLVING)


def make(layer_class, **options):
    """A layer with random weights, biases among them."""
    layer = layer_class(UNITS, **options)
    layer.build([None, None, DIM])
    layer.set_weights([RNG.normal(size=w.shape) for w in layer.get_weights()])
    return layer


def evolve(layer, events=EVENTS, scores=SCORES, mask=MASK, **options):
    return layer(events, scores, mask=mask, **options)


def three_gates(layer):
    """Weights for the oracle, which has an update gate even where nothing reads it."""
    kernel, bias, recurrent = layer.get_weights()[:3]
    padding = 0 if layer.has_update_gate else UNITS
    arrays = {"W": kernel, "b": bias, "U": recurrent}
    return {
        name: np.pad(array, [(0, 0)] * (array.ndim - 1) + [(padding, 0)])
        for name, array in arrays.items()
    }


@pytest.mark.parametrize("reset_after", [True, False])
def test_gru_is_equations_3_to_6(reset_after):
    layer = make(GRU, reset_after=reset_after)
    states, last = layer(EVENTS, mask=MASK)
    for user, length in enumerate(LENGTHS):
        events, start = EVENTS[user, :length], np.zeros(UNITS)
        expected = dien.unroll(
            dien.gru, events, [None] * length, start, three_gates(layer), reset_after
        )
        np.testing.assert_allclose(states[user, :length], expected.reshape(-1, UNITS), atol=1e-5)
        np.testing.assert_array_equal(last[user], states[user, -1])


@pytest.mark.parametrize("reset_after", [True, False])
@cells
def test_evolution_is_the_papers_equation_for_every_candidate(cell, reset_after):
    layer = make(cell, reset_after=reset_after)
    states, last = evolve(layer, return_states=True)
    for user, candidate in itertools.product(range(USERS), range(CANDIDATES)):
        length = LENGTHS[user]
        expected = dien.unroll(
            EVOLVING[cell],
            EVENTS[user, :length],
            SCORES[user, candidate, :length],
            np.zeros(UNITS),
            three_gates(layer),
            reset_after,
        )
        result = states[user, candidate, :length]
        np.testing.assert_allclose(result, expected.reshape(-1, UNITS), atol=1e-5)
        np.testing.assert_array_equal(last[user, candidate], states[user, candidate, -1])


def test_the_released_augru_scales_the_keep_gate():
    layer = make(ReleasedAUGRU)
    result = evolve(layer)
    expected = dien.unroll(
        dien.augru_released, EVENTS[0], SCORES[0, 1], np.zeros(UNITS), three_gates(layer), False
    )
    np.testing.assert_allclose(result[0, 1], expected[-1], atol=1e-5)


def test_scores_of_one_make_augru_and_aigru_a_gru():
    gru = make(GRU)
    for cell in (AUGRU, AIGRU):
        layer = make(cell)
        layer.set_weights(gru.get_weights())
        result = evolve(layer, scores=np.ones_like(SCORES))
        for candidate in range(CANDIDATES):
            np.testing.assert_array_equal(result[:, candidate], gru(EVENTS, mask=MASK)[1])


@pytest.mark.parametrize("cell", [AGRU, AUGRU])
def test_scores_of_zero_leave_the_initial_state(cell):
    start = RNG.normal(size=(USERS, CANDIDATES, UNITS)).astype(np.float32)
    result = evolve(make(cell), scores=np.zeros_like(SCORES), initial_state=start)
    np.testing.assert_array_equal(result, start)


def test_scores_of_zero_make_aigru_forget_what_happened_but_not_how_often():
    layer = make(AIGRU)
    result = evolve(layer, scores=np.zeros_like(SCORES))
    other = evolve(layer, events=EVENTS[::-1], scores=np.zeros_like(SCORES))
    np.testing.assert_array_equal(result, other)
    assert np.abs(result[0, 0] - result[1, 0]).max() > 1e-3
    layer.set_weights([w * (w.ndim > 1) for w in layer.get_weights()])
    np.testing.assert_array_equal(evolve(layer, scores=np.zeros_like(SCORES)), 0 * result)


@pytest.mark.parametrize("cell", [AGRU, AUGRU])
def test_a_step_with_score_zero_equals_its_deletion(cell):
    layer, scores = make(cell), SCORES.copy()
    scores[:, :, 2] = 0
    short = np.delete(EVENTS, 2, 1), np.delete(SCORES, 2, 2), np.delete(MASK, 2, 1)
    result = evolve(layer, scores=scores)
    np.testing.assert_allclose(result, evolve(layer, *short), atol=1e-6)


def test_a_single_score_of_one_makes_agru_the_candidate_of_that_event():
    layer, scores = make(AGRU), np.zeros_like(SCORES)
    scores[0, 0, 4] = 1
    _, _, expected = dien.gru_gates(EVENTS[0, 4], np.zeros(UNITS), three_gates(layer))
    np.testing.assert_allclose(evolve(layer, scores=scores)[0, 0], expected, atol=1e-6)


def test_augru_moves_at_most_twice_the_score():
    states, _ = evolve(make(AUGRU), return_states=True)
    steps = np.abs(np.diff(states, axis=2)).max(-1)
    assert (steps <= 2 * SCORES[:, :, 1:] + 1e-6).all()


@cells
def test_padding_changes_nothing_bitwise_on_either_side(cell):
    layer = make(cell)
    noise = RNG.normal(size=EVENTS.shape).astype(np.float32)
    right = np.where(MASK[..., None], EVENTS, noise)
    expected = evolve(layer)
    np.testing.assert_array_equal(evolve(layer, events=right), expected)
    shift = [np.roll(np.arange(TIME), TIME - length) for length in LENGTHS]
    rows = np.arange(USERS)[:, None]
    left = EVENTS[rows, shift], np.swapaxes(SCORES, 1, 2)[rows, shift], MASK[rows, shift]
    result = evolve(layer, left[0], np.swapaxes(left[1], 1, 2), left[2])
    np.testing.assert_array_equal(result, expected)


def test_padding_on_the_left_passes_the_grus_initial_state_through():
    layer = make(GRU)
    start = RNG.normal(size=(USERS, UNITS)).astype(np.float32)
    states, last = layer(EVENTS[:, ::-1], mask=MASK[:, ::-1], initial_state=start)
    np.testing.assert_array_equal(last[3], start[3])
    np.testing.assert_array_equal(states[2, : TIME - 1], np.tile(start[2], [TIME - 1, 1]))
    expected = layer(EVENTS[2:3, :1], initial_state=start[2:3])[1]
    np.testing.assert_allclose(last[2:3], expected, atol=1e-6)


@cells
def test_an_empty_history_is_zero_and_its_gradients_are_finite(cell):
    layer = make(cell)
    with tf.GradientTape() as tape:
        last = evolve(layer, mask=np.zeros_like(MASK))
    np.testing.assert_array_equal(last, np.zeros([USERS, CANDIDATES, UNITS]))
    for gradient in tape.gradient(last, layer.trainable_weights):
        np.testing.assert_array_equal(gradient, np.zeros(gradient.shape))


@pytest.mark.parametrize("users", [None, 32])  # 32 are compiled by XLA
@pytest.mark.parametrize("kind", [GRU, AUGRU, KeyedMemory, BiLSTM])
def test_a_history_of_no_length_leaves_the_start_in_a_graph(kind, users):
    layer = kind(UNITS)
    scores = (tf.ones([32, CANDIDATES, 0]),) if kind is AUGRU else ()
    layer(tf.ones([32, 2, DIM]), *(tf.ones([32, CANDIDATES, 2]) for _ in scores))

    @tf.function(input_signature=[tf.TensorSpec([users, None, DIM])])
    def run(events):
        with tf.GradientTape() as tape:
            outputs = tf.nest.flatten(layer(events, *scores))
        return outputs, tape.gradient(outputs, layer.trainable_weights)

    outputs, gradients = run(tf.zeros([32, 0, DIM]))
    for values in (*outputs, *gradients):
        np.testing.assert_array_equal(values, np.zeros(values.shape))


@cells
def test_candidates_do_not_see_each_other(cell):
    layer, scores = make(cell), SCORES.copy()
    scores[:, 0] = 1 - scores[:, 0]
    np.testing.assert_array_equal(evolve(layer)[:, 1:], evolve(layer, scores=scores)[:, 1:])


@pytest.mark.parametrize("cell", [*EVOLVING, ReleasedAIGRU, ReleasedAGRU, ReleasedAUGRU])
def test_a_layer_comes_back_from_its_config(cell):
    layer = make(cell)
    copy = tf.keras.layers.deserialize(tf.keras.layers.serialize(layer))
    copy.set_weights(layer.get_weights())
    np.testing.assert_array_equal(evolve(copy), evolve(layer))


def test_half_precision_gives_half_precision_but_adds_up_in_float32():
    layer = make(AUGRU)
    half = AUGRU.from_config({**layer.get_config(), "dtype": "mixed_bfloat16"})
    half.build([None, None, DIM])
    half.set_weights(layer.get_weights())
    result = evolve(half)
    assert result.dtype == tf.bfloat16
    np.testing.assert_allclose(tf.cast(result, tf.float32), evolve(layer), atol=0.05)
    assert {w.dtype for w in half.weights} == {tf.float32}


def test_released_biases_start_at_tensorflows_one():
    layer = ReleasedAUGRU(UNITS)
    layer.build([None, None, DIM])
    # Its update gate keeps with bias 1, so ours, which writes, starts at -1.
    np.testing.assert_array_equal(layer.get_weights()[1], np.repeat([-1.0, 1.0, 0.0], UNITS))


def test_a_second_bias_is_refused_where_the_reset_gate_comes_first():
    for cell in (ReleasedGRU, ReleasedAUGRU):
        with pytest.raises(ValueError, match="recurrent_bias needs reset_after"):
            cell(UNITS, recurrent_bias=True)


def test_initializers_and_regularizers_are_those_of_the_arguments():
    layer = AUGRU(
        UNITS,
        kernel_initializer="ones",
        recurrent_initializer=tf.keras.initializers.Constant(0.5),
        kernel_regularizer=tf.keras.regularizers.L2(0.25),
    )
    copy = AUGRU.from_config(layer.get_config())
    for each in (layer, copy):
        each.build([None, None, DIM])
        np.testing.assert_array_equal(each.get_weights()[0], np.ones([DIM, 3 * UNITS]))
        np.testing.assert_array_equal(each.get_weights()[2], np.full([UNITS, 3 * UNITS], 0.5))
        np.testing.assert_allclose(each.losses, [0.25 * DIM * 3 * UNITS])


class Evolution(tf.keras.Model):
    """Extractor, AUGRU and a sum: enough of a model to be fitted and exported."""

    def __init__(self, jit_compile=None):
        super().__init__()
        self.gru = GRU(UNITS, jit_compile=jit_compile)
        self.augru = AUGRU(UNITS, jit_compile=jit_compile)

    def call(self, features):
        states, _ = self.gru(features["events"], mask=features["mask"])
        last = self.augru(states, features["scores"], mask=features["mask"])
        return tf.reduce_sum(last, -1)


FEATURES = {"events": EVENTS, "mask": MASK, "scores": SCORES}
LABELS = RNG.uniform(size=(USERS, CANDIDATES)).astype(np.float32)


def fitted(jit_compile=None, batch=USERS):
    tf.keras.utils.set_random_seed(5)
    model = Evolution(jit_compile)
    model.compile(tf.keras.optimizers.SGD(0.5), "mse")
    model.fit(FEATURES, LABELS, batch_size=batch, epochs=2, shuffle=False, verbose=0)
    return model


def test_fit_learns_the_same_with_and_without_xla():
    for one, other in zip(
        fitted(True).get_weights(), fitted(False, USERS).get_weights(), strict=True
    ):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_two_replicas_take_the_gradient_of_the_whole_batch(two_replicas, mirrored, jit_compile):
    with mirrored.scope():
        tf.keras.utils.set_random_seed(5)
        model = Evolution(jit_compile)
        model({name: tf.constant(array) for name, array in FEATURES.items()})

    def gradients(*arrays):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(model(dict(zip(FEATURES, arrays, strict=True)))))
        result = tape.gradient(loss, model.trainable_weights)
        context = tf.distribute.get_replica_context()
        if context and context.num_replicas_in_sync > 1:
            result = context.all_reduce(tf.distribute.ReduceOp.SUM, result)
        return result

    shared = two_replicas(gradients, *FEATURES.values())
    whole = gradients(*map(tf.constant, FEATURES.values()))
    for one, other in zip(shared, whole, strict=True):
        np.testing.assert_allclose(one.values[1], other, atol=1e-5)


LOAD = """
import sys, numpy as np, tensorflow as tf
arrays = dict(np.load(sys.argv[2]))
signature = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
(scores,) = signature(**{k: tf.constant(v) for k, v in arrays.items() if k != "expected"}).values()
np.testing.assert_allclose(scores, arrays["expected"], atol=1e-6)
assert "dgin_tf" not in sys.modules
"""


@pytest.mark.parametrize("jit_compile", [None, True])
def test_an_export_scores_the_same_where_our_code_is_not(tmp_path, jit_compile):
    model = fitted(jit_compile)
    signature = {
        k: tf.TensorSpec(
            [None] * (v.ndim - 1) + list(v.shape[-1:]) if k == "events" else [None] * v.ndim,
            v.dtype,
            k,
        )
        for k, v in FEATURES.items()
    }
    function = tf.function(lambda **f: {"scores": model(f)}, autograph=False)
    tf.saved_model.save(
        model, str(tmp_path / "m"), signatures=function.get_concrete_function(**signature)
    )
    np.savez(tmp_path / "arrays.npz", expected=model(FEATURES), **FEATURES)
    subprocess.run(
        [sys.executable, "-c", LOAD, tmp_path / "m", tmp_path / "arrays.npz"],
        check=True,
        cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
    )


# Public implementations.


def golden_run(arrays, layer, initial_state=None):
    """States where real and zero elsewhere, as TensorFlow's dynamic_rnn gives them, and the last."""
    events, lengths = arrays["in_x"], arrays["in_seq_len"]
    mask = np.arange(events.shape[1]) < lengths[:, None]
    if isinstance(layer, GRU):
        states, last = layer(events, mask=mask, initial_state=initial_state)
    else:
        start = None if initial_state is None else initial_state[:, None]
        scores = arrays["in_att"][:, None]
        states, last = layer(events, scores, mask, start, return_states=True)
        states, last = states[:, 0], last[:, 0]
    return states * mask[..., None].astype(np.float32), last


def check_golden_run(arrays, layer, prefix=""):
    for suffix, start in (("", None), ("_from_h0", arrays["in_h0"])):
        states, last = golden_run(arrays, layer, start)
        golden_files.assert_close(states, arrays[f"out_{prefix}seq{suffix}"])
        final = "final" if prefix else "final_state"
        golden_files.assert_close(last, arrays[f"out_{prefix}{final}{suffix}"])


@pytest.mark.parametrize(
    ("stem", "cell"),
    [
        ("dien_gru_official", ReleasedGRU),
        ("dien_augru_official", ReleasedAUGRU),
        ("dien_agru_official", ReleasedAGRU),
    ],
)
def test_golden_released_cells_and_their_gradients(stem, cell):
    arrays = golden_files.load(stem)
    events = tf.constant(arrays["in_x"])
    layer = cell(arrays["in_h0"].shape[-1])
    layer.build(events.shape)
    layer.set_weights(
        released_weights.from_tensorflow_1(
            golden_files.weights(arrays, ""), events.shape[-1], layer.has_update_gate
        )
    )
    check_golden_run(arrays, layer)
    watched = {"x": events}
    if cell is not ReleasedGRU:
        watched["att"] = tf.constant(arrays["in_att"])
    with tf.GradientTape() as tape:
        tape.watch(watched)
        inputs = {**arrays, **{f"in_{name}": value for name, value in watched.items()}}
        states, last = golden_run(inputs, layer)
        loss = tf.reduce_sum(states * arrays["in_cotangent_seq"])
        loss += tf.reduce_sum(last * arrays["in_cotangent_final"])
    result, weights = tape.gradient(loss, (watched, layer.trainable_weights))
    result |= released_weights.to_tensorflow_1(*(w.numpy() for w in weights))
    for name, gradient in result.items():
        golden_files.assert_close(gradient, arrays[f"out_grad_{name}"])


@pytest.mark.parametrize("reset", ["after", "before"])
@pytest.mark.parametrize("cell", [GRU, AIGRU, AGRU, AUGRU])
def test_golden_dien_paper_rnn(cell, reset):
    arrays = golden_files.load("dien_paper_rnn")
    dim, units = arrays["in_x"].shape[-1], arrays["in_h0"].shape[-1]
    layer = cell(units, reset_after=reset == "after", dtype="float64")
    layer.build([None, None, dim])
    names = {"gates_kernel": "gates_kernel_r_then_u", "gates_bias": "gates_bias_r_then_u"}
    weights = golden_files.weights(arrays, "")
    gate_weights = {
        k: weights[names.get(k, k)] for k in (*names, "candidate_kernel", "candidate_bias")
    }
    for name in names:  # here the file's update gate writes, as ours does
        columns = gate_weights[name].shape[-1] // 2
        gate_weights[name] = np.concatenate(
            [gate_weights[name][..., :columns], -gate_weights[name][..., columns:]], -1
        )
    layer.set_weights(released_weights.from_tensorflow_1(gate_weights, dim, layer.has_update_gate))
    check_golden_run(arrays, layer, f"{cell.__name__.lower()}_reset_{reset}_")


@pytest.mark.parametrize(
    ("cell", "order"),
    [
        (GRU, released_weights.RZN),
        (AGRU, released_weights.RN_OF_URN),
        (AUGRU, released_weights.URN),
    ],
)
def test_golden_longctr_dien_cells(cell, order):
    arrays = golden_files.load("longctr_dien_cells")
    name, events = cell.__name__.lower(), arrays["in_x"]
    start, scores = arrays["in_h0"], arrays["in_att"][:, None]
    columns = "rzn" if cell is GRU else "urn"
    names = (
        ["input_kernel", "input_bias", "recurrent_kernel", "recurrent_bias"]
        if cell is GRU
        else ["x2h_kernel", "x2h_bias", "h2h_kernel", "h2h_bias"]
    )
    layer = cell(start.shape[-1], recurrent_bias=True)
    layer.build(events.shape)
    layer.set_weights(
        released_weights.from_columns(
            golden_files.weights(arrays, f"{name}_"), order, [f"{n}_{columns}" for n in names]
        )
    )
    if cell is GRU:
        states, _ = layer(events, initial_state=start)
    else:
        states, _ = layer(events, scores, None, start[:, None], return_states=True)
        states = states[:, 0]
    golden_files.assert_close(states, arrays[f"out_{name}_seq"])
