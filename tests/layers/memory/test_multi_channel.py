"""MIMN's memory as a layer: numpy's equations, streams, what the losses train, and recall."""

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.layers.events import History, Target
from dgin_tf.layers.memory.ntm import (
    MemoryInduction,
    MultiChannelMemory,
    TuringMemory,
    UtilizationRegularization,
)
from dgin_tf.layers.memory.rum import KeyedMemory, UserMemory
from dgin_tf.ops import ntm
from dgin_tf.ops.fast.scan import fast_scan
from tests.oracles import mimn

USERS, TIME, EVENT_DIM, SLOTS, DIM, UNITS, CHANNEL_UNITS = 4, 9, 6, 5, 3, 7, 2
LENGTHS = (9, 4, 1, 0)


def make(k=2, balanced=True, sharpness=1.0, normalize=False, stop=False, **kwargs):
    """A built memory whose every weight matters."""
    memory = TuringMemory(
        SLOTS,
        DIM,
        UNITS,
        UtilizationRegularization(0.5, normalize, stop, **kwargs) if balanced else None,
        MemoryInduction(CHANNEL_UNITS, k, **kwargs) if k else None,
        sharpness=sharpness,
        **kwargs,
    )
    memory.build([None, None, EVENT_DIM])
    rng = np.random.default_rng(3)
    for variable in memory.trainable_variables:
        variable.assign(rng.normal(0, 0.6, variable.shape))
    return memory


def history(dtype=tf.float32, seed=1):
    rng = np.random.default_rng(seed)
    mask = np.arange(TIME) < np.array(LENGTHS)[:, None]
    events = np.where(mask[..., None], rng.normal(size=(USERS, TIME, EVENT_DIM)), 0)
    negatives = np.where(mask[..., None], rng.normal(size=events.shape), 0)
    negatives = tf.constant(negatives, dtype)
    return History(tf.constant(events, dtype), tf.constant(mask), negatives=negatives)


def cut(events, start, end):
    return History(events.events[:, start:end], events.mask[:, start:end], {})


OPTIONS = [(1.0, False, True), (1.0, True, False), (4.0, False, False), (None, True, True)]


@pytest.mark.parametrize(
    ("k", "balanced", "sharpness", "normalize", "stop"),
    [(0, False, 1.0, False, False), (0, True, 1.0, False, False), (1, True, 1.0, False, False)]
    + [(3, False, 1.0, False, False), *[(2, True, *options) for options in OPTIONS]],
)
def test_the_state_is_that_of_numpys_equations(k, balanced, sharpness, normalize, stop):
    memory = make(k, balanced, sharpness, normalize, stop, dtype="float64")
    x = history(tf.float64)
    result, _ = memory(x.events, x.mask)
    weights = tf.nest.map_structure(
        lambda value: None if value is None else value.numpy(), memory.step_weights()
    )
    start = {name: value[0].numpy() for name, value in memory.initial_state(1).items()}
    for user in range(USERS):
        values = x.events[user].numpy(), x.mask[user].numpy(), weights, k, sharpness, normalize
        reference = mimn.fold(start, *values)
        for name, value in reference.items():
            np.testing.assert_allclose(result[name][user], value, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("options", OPTIONS)
def test_the_fast_scan_has_the_plain_ones_values_and_gradients(options):
    memory, x = make(2, True, *options, dtype="float64"), history(tf.float64)
    state = {name: tf.convert_to_tensor(v) for name, v in memory.initial_state(USERS).items()}
    sequences = (x.events, tf.cast(x.mask, tf.float64))

    def value_and_gradients(scan):
        with tf.GradientTape() as tape:
            last, traces = scan(memory.step, state, sequences, memory.step_weights(), ["usage"])
            names = ("memory", "channels", "read")
            loss = tf.reduce_sum(tf.square(traces["usage"]))
            loss += sum(tf.reduce_sum(tf.sin(last[name])) for name in names)
        variables = memory.trainable_variables
        gradients = tape.gradient(loss, variables, unconnected_gradients="zero")
        return [loss, *gradients]

    for mine, theirs in zip(
        value_and_gradients(fast_scan), value_and_gradients(ntm.scan), strict=True
    ):
        np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("stop", [False, True])
def test_the_regularization_trains_the_transfer_alone_where_the_gradient_stops(stop):
    memory, x = make(stop=stop), history()
    with tf.GradientTape() as tape:
        state, _ = memory(x.events, x.mask)
        loss = tf.reduce_sum(memory.utilization.loss(state["usage"]))
    gradients = tape.gradient(loss, memory.trainable_variables, unconnected_gradients="zero")
    variables = zip(memory.trainable_variables, gradients, strict=True)
    reached = [variable is memory.utilization.kernel for variable, g in variables if np.any(g)]
    assert sum(reached) == 1
    assert all(reached) == stop


def test_normalized_use_does_not_saturate_the_transfer():
    kernel = tf.random.stateless_normal([SLOTS, SLOTS**2], [1, 2])
    use = tf.constant([[0.5, 0.2, 0.1, 0.1, 0.1]])
    for events in (10.0, 1000.0):
        normalized = ntm.transfer(events * use, kernel, normalize=True)
        np.testing.assert_allclose(normalized, ntm.transfer(use, kernel), rtol=1e-5)
    assert np.min(np.max(ntm.transfer(1000.0 * use, kernel), -1)) > 0.99


def test_normalized_use_starts_with_weights_that_stay_in_their_slots():
    layer = UtilizationRegularization(normalize_usage=True)
    weights = tf.one_hot([2], SLOTS)
    use = tf.constant([[2.0, 7.0, 1.0, 0.0, 5.0]])
    assert layer(weights, use)[0, 2] > 0.85
    assert np.max(UtilizationRegularization()(weights, use / 15.0)) < 0.4


@pytest.mark.parametrize("sharpness", [1.0, 5.0])
def test_a_candidate_addresses_as_sharply_as_an_event(sharpness):
    encoder, x = MultiChannelMemory(make(sharpness=sharpness)), history()
    target = Target(x.events[:, :2], tf.ones([USERS, 2], tf.bool), {})
    state = encoder.encode(x)
    weights = encoder.interest(state, target)["target_weights"]
    similarity = ntm.cosine(encoder.query(target.embedding), state["memory"])
    np.testing.assert_allclose(weights, mimn.softmax(sharpness * similarity.numpy()), rtol=1e-5)


def test_learned_sharpness_is_at_least_two_for_events_and_candidates():
    encoder, x = MultiChannelMemory(make(sharpness=None)), history()
    target = Target(x.events[:, :2], tf.ones([USERS, 2], tf.bool), {})
    encoder.interest(encoder.encode(x), target)
    assert encoder.query_sharpness.built
    assert encoder.memory.instructions.kernel.shape == [UNITS, 4 * DIM + 2]
    np.testing.assert_allclose(ntm.learned_sharpness(tf.constant([-99.0, 0.0])), [2.0, 3.386], 1e-3)


@pytest.mark.parametrize("options", [(1.0, False, False), *OPTIONS])
@pytest.mark.parametrize("chunk", [1, 2, 4])
def test_updates_of_a_stored_state_equal_one_encoding_bitwise(chunk, options):
    encoder, x = MultiChannelMemory(make(2, True, *options)), history()
    state = encoder.encode(cut(x, 0, 3))
    for start in range(3, TIME, chunk):
        state = encoder.update(state, cut(x, start, start + chunk))
    for name, value in encoder.encode(x).items():
        np.testing.assert_array_equal(state[name], value)


def test_padded_events_change_nothing_bitwise():
    memory, x = make(), history()
    state, _ = memory(x.events, x.mask)
    longer = tf.concat([x.events, tf.ones_like(x.events)], 1)
    padded, _ = memory(longer, tf.concat([x.mask, tf.zeros_like(x.mask)], 1))
    for name, value in state.items():
        np.testing.assert_array_equal(padded[name], value)


def test_the_use_of_the_slots_counts_the_events():
    state, _ = make()(history().events, history().mask)
    np.testing.assert_allclose(tf.reduce_sum(state["usage"], -1), LENGTHS, rtol=1e-5)


def test_all_weights_of_the_slots_sum_to_one():
    x = history()
    _, traces = make()(x.events, x.mask, traces=["read_weights", "write_weights"])
    for name in ("read_weights", "write_weights"):
        np.testing.assert_allclose(tf.reduce_sum(traces[name], -1), 1.0, rtol=1e-5)


@pytest.mark.parametrize("k", [1, 3])
def test_an_event_changes_k_channels(k):
    x = history()
    _, traces = make(k)(x.events, x.mask, traces=["channels"])
    channels = np.concatenate([np.zeros([USERS, 1, SLOTS, CHANNEL_UNITS]), traces["channels"]], 1)
    has_moved = np.any(channels[:, 1:] != channels[:, :-1], -1).sum(-1)
    np.testing.assert_array_equal(has_moved, np.where(x.mask, k, 0))


def test_without_events_the_interest_is_exactly_zero():
    encoder, x = MultiChannelMemory(make()), history()
    target = Target(tf.ones([USERS, 2, EVENT_DIM]), tf.ones([USERS, 2], tf.bool), {})
    interest = encoder.interest(encoder.encode(x), target)["interest"]
    assert interest.shape == [USERS, 2, DIM + CHANNEL_UNITS]
    np.testing.assert_array_equal(np.any(interest, (1, 2)), np.array(LENGTHS) > 0)


def test_the_regularization_trains_the_transfer_and_lowers_the_variance_of_the_use():
    encoder, x = MultiChannelMemory(make()), history()
    optimizer = tf.keras.optimizers.Adam(0.05)
    losses = []
    for _ in range(6):
        with tf.GradientTape() as tape:
            _, own_losses = encoder.encode_with_losses(x)
            loss = tf.reduce_mean(own_losses["utilization"])
        kernel = encoder.memory.utilization.kernel
        optimizer.apply_gradients([(tape.gradient(loss, kernel), kernel)])
        losses.append(float(loss))
    assert losses[-1] < 0.9 * losses[0]


def test_more_channels_than_slots_are_refused():
    with pytest.raises(ValueError, match="at most as many channels as there are slots, 5; got k=6"):
        make(k=6)
    with pytest.raises(ValueError, match="at least 1; got 0"):
        MemoryInduction(k=0)


def test_rums_predictions_do_not_depend_on_the_order_of_the_slots():
    memory, x = KeyedMemory(SLOTS), history()
    encoder = UserMemory(memory)
    target = Target(x.events[:, :2], x.mask[:, :2], {})
    before = encoder.interest(encoder.encode(x), target)["interest"]
    keys = memory.keys
    keys.assign(tf.gather(keys, [3, 0, 4, 2, 1]))
    after = encoder.interest(encoder.encode(x), target)["interest"]
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_an_item_of_many_events_ago_is_recalled():
    """The first of 21 events is one of two items, the others are noise; was it the candidate?"""
    tf.keras.utils.set_random_seed(1)
    rng, rows, time, dim = np.random.default_rng(0), 64, 21, 4
    encoder = MultiChannelMemory(TuringMemory(2, dim, 8))
    head = tf.keras.layers.Dense(1)
    optimizer = tf.keras.optimizers.Adam(0.02)

    def logits(events, candidates):
        mask = tf.ones(tf.shape(events)[:2], tf.bool)
        state = encoder.encode(History(events, mask, {}))
        target = Target(candidates, tf.ones(tf.shape(candidates)[:2], tf.bool), {})
        interest = encoder.interest(state, target)["interest"]
        return head(interest * candidates)[:, 0, 0]

    @tf.function(  # of a number of rows that is not known, which XLA would spend seconds on
        input_signature=[
            tf.TensorSpec([None, time, dim]),
            tf.TensorSpec([None, 1, dim]),
            tf.TensorSpec([None]),
        ],
        autograph=False,
    )
    def train(events, candidates, labels):
        with tf.GradientTape() as tape:
            result = logits(events, candidates)
            loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels, result))
        variables = encoder.trainable_variables + head.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))

    def sample():
        first, candidate = rng.integers(0, 2, (2, rows))
        events = rng.normal(0, 0.3, (rows, time, dim)).astype(np.float32)
        events[:, 0] = np.eye(dim)[first] * 2
        candidates = np.eye(dim, dtype=np.float32)[candidate][:, None]
        return tf.constant(events), tf.constant(candidates), (first == candidate).astype("float32")

    events, candidates, _ = sample()
    logits(events, candidates)
    optimizer.build(encoder.trainable_variables + head.trainable_variables)
    for _ in range(100):
        train(*sample())
    events, candidates, labels = sample()
    right = (logits(events, candidates).numpy() > 0) == (labels > 0)
    assert right.mean() > 0.9
