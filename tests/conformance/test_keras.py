"""The verbs of Keras that every model honors: save, load, clone, summarize, fit, evaluate, predict."""

import io

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.layers.target_attention import AttendedHistory
from dgin_tf.models.base import CTRModel, ModelConfig
from dgin_tf.optimizers import dense_adam, rowwise_adam
from tests.conformance.catalogue import CATALOGUE, batch, build, built
from tests.conformance.test_models import IN_EVERY_RUN, layer_weights, mostly_slow, scores
from tests.prepared import make_schema

every_model = pytest.mark.parametrize("entry", CATALOGUE)
every_model_slowly = pytest.mark.parametrize("entry", mostly_slow(CATALOGUE, IN_EVERY_RUN))


def plain_batch():
    """What a user has: ids, times and labels, without masks and sampled negatives."""
    return {
        name: value
        for name, value in batch().items()
        if not name.startswith("hist_negative_") and not name.endswith("_mask")
    }


@every_model
def test_a_model_made_from_its_configuration_has_the_same_weights_and_scores(entry):
    model = built(entry)
    copy = type(model).from_config(model.get_config())
    copy.build()
    assert copy.name == model.name
    assert [w.shape for w in layer_weights(copy)] == [w.shape for w in layer_weights(model)]
    copy.set_weights(model.get_weights())
    np.testing.assert_array_equal(scores(copy, batch()), scores(model, batch()))


@every_model
def test_a_model_saved_by_keras_gives_the_same_scores_when_loaded(entry, tmp_path):
    model = built(entry)
    model.save(tmp_path / "model.keras")
    loaded = tf.keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded) is type(model)
    np.testing.assert_array_equal(scores(loaded, batch()), scores(model, batch()))


@pytest.mark.parametrize("make_optimizer", [rowwise_adam, dense_adam])
def test_a_compiled_model_goes_on_training_where_it_was_saved(make_optimizer, tmp_path):
    data = tf.data.Dataset.from_tensors(batch())
    model = CTRModel(make_schema(), {"interest": AttendedHistory()}, ModelConfig(5, (), (7,)))
    model.compile(make_optimizer(model, 0.1), metrics=[tf.keras.metrics.AUC(name="auc")])
    model.fit(data, epochs=2, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = tf.keras.models.load_model(tmp_path / "model.keras")
    reports = [m.fit(data, epochs=2, verbose=0).history for m in (model, loaded)]
    assert {"loss", "auc"} <= set(reports[1])
    np.testing.assert_allclose(reports[1]["loss"], reports[0]["loss"], rtol=1e-6)


@every_model_slowly
def test_a_saved_model_of_keras_gives_the_same_scores_when_loaded(entry, tmp_path):
    model = build(entry)
    model.save(str(tmp_path / "model"), save_format="tf")
    loaded = tf.keras.models.load_model(str(tmp_path / "model"))
    np.testing.assert_allclose(
        scores(loaded, batch()), scores(model, batch()), rtol=1e-6, atol=1e-6
    )


@every_model
def test_a_clone_is_the_same_model_with_other_weights(entry):
    model = built(entry)
    clone = tf.keras.models.clone_model(model)
    clone.build()
    assert type(clone) is type(model)
    assert clone.count_params() == model.count_params()
    assert not np.allclose(scores(clone, batch()), scores(model, batch()))


@every_model
def test_the_summary_counts_every_layers_parameters(entry):
    model, text = built(entry), io.StringIO()
    model.summary(print_fn=lambda line: text.write(line + "\n"))
    assert "unused" not in text.getvalue()
    unique = {id(w): int(np.prod(w.shape)) for layer in model.layers for w in layer.weights}
    for metric in model.metrics:  # those of nets within the model are among its layers' weights
        for weight in metric.weights:
            unique.pop(id(weight), None)
    assert sum(unique.values()) == model.count_params() - _count(model.metrics)
    assert all(layer.built for layer in model.layers)


def _count(metrics):
    return sum(int(np.prod(w.shape)) for metric in metrics for w in metric.weights)


@pytest.mark.parametrize("entry", mostly_slow(CATALOGUE, ("base_model", *IN_EVERY_RUN)))
def test_fit_evaluate_and_predict_take_plain_dictionaries(entry):
    model, data = build(entry), tf.data.Dataset.from_tensors(plain_batch())
    model.compile(rowwise_adam(model, 0.01), metrics=[tf.keras.metrics.AUC(name="auc")])
    before = scores(model, batch())
    history = model.fit(data, epochs=1, verbose=0).history
    assert np.isfinite(history["loss"][0])
    assert 0.0 <= history["auc"][0] <= 1.0
    assert not np.array_equal(scores(model, batch()), before)
    evaluation = model.evaluate(data, verbose=0, return_dict=True)
    assert {"loss", "auc"} <= set(evaluation)
    probabilities = model.predict(data, verbose=0)
    np.testing.assert_allclose(
        probabilities, tf.sigmoid(model(plain_batch())["logits"]), rtol=1e-5, atol=1e-6
    )


def test_metrics_are_computed_over_the_real_candidates_alone():
    model = build("din")
    model.compile(
        rowwise_adam(model, 0.0),
        metrics=[
            tf.keras.metrics.AUC(name="auc"),
            tf.keras.metrics.BinaryAccuracy(name="accuracy"),
        ],
    )
    features = batch()
    mask = features["cand_mask"].numpy()
    assert not mask.all()
    report = model.evaluate(tf.data.Dataset.from_tensors(features), verbose=0, return_dict=True)
    logits, labels = model(features)["logits"].numpy()[mask], features["label"].numpy()[mask]
    np.testing.assert_allclose(report["accuracy"], np.mean((logits > 0) == labels), rtol=1e-6)
    auc = tf.keras.metrics.AUC()
    auc.update_state(labels, tf.sigmoid(logits))
    np.testing.assert_allclose(report["auc"], auc.result(), rtol=1e-6)


def test_a_loss_in_compile_is_refused_by_a_sentence():
    with pytest.raises(ValueError, match="leave loss out of compile"):
        build("din").compile("adam", loss="mse")


def test_labels_may_come_beside_the_features_and_samples_may_have_weights():
    features = batch()
    labels = features.pop("label")
    model = build("din")
    model.compile(rowwise_adam(model, 0.0))
    mask = features["cand_mask"].numpy()

    def target(*data):
        data = tf.data.Dataset.from_tensors(data)
        return model.evaluate(data, verbose=0, return_dict=True)["target"]

    logits, clicks = model(features)["logits"].numpy(), labels.numpy()
    losses = np.logaddexp(0.0, logits) - clicks * logits
    np.testing.assert_allclose(target(features, labels), np.mean(losses[mask]), rtol=1e-5)
    weights = np.random.default_rng(0).uniform(0.0, 2.0, mask.shape).astype(np.float32)
    expected_loss = np.mean((losses * weights)[mask])
    np.testing.assert_allclose(target(features, labels, weights), expected_loss, rtol=1e-5)


def test_batches_without_labels_are_refused_by_a_sentence():
    features = batch()
    del features["label"]
    model = build("din")
    model.compile(rowwise_adam(model, 0.1))
    with pytest.raises(ValueError, match="expected labels"):
        model.fit(tf.data.Dataset.from_tensors(features), verbose=0)
