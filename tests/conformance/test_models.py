"""What DESIGN promises of every model, tested of every model."""

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.models.registry import MODELS
from dgin_tf.optimizers import rowwise_adam
from tests.conformance.catalogue import (
    CANDIDATES,
    CATALOGUE,
    SMALL,
    batch,
    build,
    built,
    in_training,
    padded_on_the_left,
    with_padding_ids,
)

# The released code sums padding into the history and takes Dice's statistics from the batch at test
# time: those variants reproduce it, so the properties that it breaks are not asked of them.
PAPER = [entry for entry in CATALOGUE if not entry.endswith(("-released", "_released"))]
# Compiling a model and building it anew take seconds: in every run one of each paper and search, all
# of them among the slow tests.
IN_EVERY_RUN = ("din", "dien", "mimn", "sim_soft", "sdim", "encode", "dgin")
ALWAYS_REPLICATED = ("din", "mimn", "dgin")  # a step on two replicas takes fifteen seconds


def mostly_slow(entries, quick=IN_EVERY_RUN):
    return [
        entry if entry in quick else pytest.param(entry, marks=pytest.mark.slow)
        for entry in entries
    ]


every_model = pytest.mark.parametrize("entry", CATALOGUE)
every_paper_model = pytest.mark.parametrize("entry", PAPER)
every_model_slowly = pytest.mark.parametrize("entry", mostly_slow(CATALOGUE))


def real(values, features):
    return np.where(features["cand_mask"], values, 0)


def scores(model, features, training=False):
    return real(model(features, training=training)["logits"], features)


def layer_weights(model):
    """Trained weights and moving statistics, but not the metrics that the model reports by."""
    return [variable for layer in model.layers for variable in layer.weights]


def gradients(model, features):
    with tf.GradientTape() as tape:
        parts = model.compute_losses(features, model(features, training=True))
        loss = tf.add_n(list(parts.values()))
    found = tape.gradient(loss, model.trainable_variables)
    return [None if g is None else tf.convert_to_tensor(g).numpy() for g in found], loss.numpy()


def test_the_catalogue_holds_every_model_of_the_registry():
    assert set(SMALL) == set(MODELS)


@every_paper_model
@pytest.mark.parametrize("training", [False, True])
def test_ids_under_the_padding_change_nothing_bitwise(entry, training):
    model, features, found = in_training(entry) if training else built(entry), batch(), []
    for changed in (features, with_padding_ids(features)):
        tf.keras.utils.set_random_seed(0)  # training draws events, and moves what it has seen
        before = [(variable, variable.numpy()) for variable in model.variables]
        found.append(scores(model, changed, training))
        for variable, value in before:
            variable.assign(value)
    np.testing.assert_array_equal(*found)


@every_paper_model
def test_padding_on_the_left_gives_what_padding_on_the_right_gives(entry):
    model, features = built(entry), batch()
    left = scores(model, padded_on_the_left(features))
    np.testing.assert_allclose(left, scores(model, features), rtol=1e-5, atol=1e-6)


@every_model
def test_empty_histories_give_finite_logits_and_gradients(entry):
    features = batch()
    features = {k: tf.zeros_like(v) if k.startswith("hist_") else v for k, v in features.items()}
    model = in_training(entry)
    assert np.all(np.isfinite(scores(model, features)))
    found, loss = gradients(model, features)
    assert np.isfinite(loss)
    assert all(np.all(np.isfinite(g)) for g in found if g is not None)


def cancels(variable):
    """A number added to every score under a softmax: its gradient is rounding, or exactly zero."""
    is_attention = "attention" in variable.name or "alignment" in variable.name
    return variable.shape == [1] and is_attention


@every_model
def test_every_weight_receives_a_gradient(entry):
    model = in_training(entry)
    found, _ = gradients(model, batch())
    dead = [
        variable.name
        for variable, gradient in zip(model.trainable_variables, found, strict=True)
        if gradient is None or not (np.any(gradient) or cancels(variable))
    ]
    assert dead == []


@every_paper_model
def test_candidates_do_not_see_each_other(entry):
    model, features = built(entry), batch()
    together = scores(model, features)
    for n in range(CANDIDATES):
        alone = {
            k: v[:, n : n + 1] if k.startswith("cand_") or k == "label" else v
            for k, v in features.items()
        }
        found = scores(model, alone)[:, 0]
        np.testing.assert_allclose(found, together[:, n], rtol=1e-5, atol=1e-6)


@every_model
def test_scoring_a_stored_state_equals_the_whole_call(entry):
    model, features = built(entry), batch()
    user_side = {k: v for k, v in features.items() if k.startswith(("hist_", "user_"))}
    candidate_side = {k: v for k, v in features.items() if k.startswith("cand_")}
    found = model.score(model.encode_user(user_side), candidate_side)["logits"]
    np.testing.assert_allclose(found, model(features)["logits"], rtol=1e-6, atol=1e-6)


@every_paper_model
@pytest.mark.parametrize("chunk", [1, 3])
def test_folding_events_in_chunks_equals_one_encoding(entry, chunk):
    model, features = built(entry), batch()
    if not model.is_incremental:
        with pytest.raises(NotImplementedError, match="cannot fold"):
            model.update_user(model.encode_user(features), features)
        return
    history = {k: v for k, v in features.items() if k.startswith("hist_")}
    user = {k: v for k, v in features.items() if k.startswith("user_")}
    state = model.encode_user({**user, **{k: v[:, :0] for k, v in history.items()}})
    for start in range(0, history["hist_mask"].shape[1], chunk):
        state = model.update_user(
            state, {k: v[:, start : start + chunk] for k, v in history.items()}
        )
    found = model.score(state, features)["logits"]
    np.testing.assert_allclose(real(found, features), scores(model, features), rtol=1e-5, atol=1e-6)


@every_model_slowly
def test_weights_survive_a_checkpoint(entry, tmp_path):
    model, other = built(entry), build(entry, seed=1)
    path = tf.train.Checkpoint(model=model).write(str(tmp_path / "weights"))
    assert not np.allclose(scores(other, batch()), scores(model, batch()))
    tf.train.Checkpoint(model=other).read(path).expect_partial()
    np.testing.assert_array_equal(scores(other, batch()), scores(model, batch()))


@every_model_slowly
def test_mixed_bfloat16_runs_and_stays_near_float32(entry):
    expected = scores(built(entry), batch())
    tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        model = build(entry)
        found = model(batch())["logits"]
        gradient, _ = gradients(model, batch())
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    assert found.dtype == tf.float32
    assert all(np.all(np.isfinite(g)) for g in gradient)
    np.testing.assert_allclose(real(found, batch()), expected, rtol=0.1, atol=0.1)


@every_model_slowly
def test_the_call_compiles_under_xla(entry):
    model, features = built(entry), batch()
    features = {k: v for k, v in features.items() if not k.startswith("hist_negative_")}
    compiled = tf.function(lambda f: model(f)["logits"], jit_compile=True, autograph=False)
    found = real(compiled(features), features)
    np.testing.assert_allclose(found, scores(model, features), rtol=1e-4, atol=1e-5)


def test_the_step_of_a_built_model_is_traced_once(monkeypatch):
    model, traced = build("din"), []
    step = model.train_step
    monkeypatch.setattr(model, "train_step", lambda *args: traced.append(1) or step(*args))
    model.compile(rowwise_adam(model, 0.1))
    model.fit(tf.data.Dataset.from_tensors(batch()), verbose=0)
    assert len(traced) == 1


@pytest.mark.slow
@every_model
def test_a_step_that_xla_compiles_is_the_step(entry):
    models = [build(entry) for _ in range(2)]
    for model, compiled in zip(models, (False, True), strict=True):
        model.compile(rowwise_adam(model, 0.1), jit_compile=compiled)
        model.fit(tf.data.Dataset.from_tensors(batch()), verbose=0)
    reported = [[metric.result().numpy() for metric in model.metrics] for model in models]
    np.testing.assert_allclose(*reported, rtol=1e-4)
    for plain, compiled in zip(*map(layer_weights, models), strict=True):
        if not cancels(plain):  # Adam makes a step of what is but rounding
            found, wanted = compiled.numpy(), plain.numpy()
            np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4, err_msg=plain.name)


@pytest.mark.parametrize("entry", mostly_slow(PAPER, ALWAYS_REPLICATED))
def test_two_replicas_take_the_step_of_one_device_on_the_whole_batch(entry, mirrored):
    features = batch()
    single = build(entry)
    single.compile(optimizer=tf.keras.optimizers.SGD(0.5))
    with mirrored.scope():
        double = build(entry)
        double.compile(optimizer=tf.keras.optimizers.SGD(0.5))
    data = tf.data.Dataset.from_tensors(features)
    single.fit(data, verbose=0)
    double.fit(data, verbose=0)
    for found, wanted in zip(layer_weights(double), layer_weights(single), strict=True):
        np.testing.assert_allclose(
            found.numpy(), wanted.numpy(), rtol=1e-4, atol=1e-5, err_msg=wanted.name
        )
