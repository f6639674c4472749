"""The verbs of Keras that every model honors: save, load, clone, summarize, fit, evaluate, predict."""

import io
import re

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.layers.target_attention import AttendedHistory
from dgin_tf.models.base import CTRModel, ModelConfig
from dgin_tf.models.registry import make_model
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


@pytest.mark.parametrize("form", ["batch", "parts"])
def test_class_weights_of_fit_are_weights_of_the_samples_by_their_labels(form):
    features = batch()
    weights = tf.where(features["label"] > 0, 3.0, 0.5)
    reports = []
    for by_class in (True, False):
        tf.keras.utils.set_random_seed(1)
        model = make_model("din", make_schema())
        model.compile(tf.keras.optimizers.SGD(0.1))
        own = features if by_class else {**features, "sample_weight": weights}
        own = {"parts": (own,)} if form == "parts" else own
        data = tf.data.Dataset.from_tensors(own)
        options = {"class_weight": {0: 0.5, 1: 3.0}} if by_class else {}
        reports.append(model.fit(data, epochs=2, verbose=0, **options).history["target"])
        reports[-1] += model.fit(data, verbose=0).history["target"]
    np.testing.assert_allclose(reports[0][:2], reports[1][:2], rtol=1e-6)
    assert not np.allclose(reports[0][2], reports[1][2])  # the next fit has none of them


def test_weights_stored_with_the_data_multiply_those_of_fit_and_padding_has_none():
    features = batch()
    assert not features["cand_mask"].numpy().all()
    model = make_model("din", make_schema())
    outputs = model(features)
    twice = tf.fill(tf.shape(features["label"]), tf.constant(2_000_000, tf.int64))
    stored = {**features, "cand_sample_weight": twice}
    half = {**stored, "sample_weight": tf.fill(tf.shape(features["label"]), 0.25)}
    plain = model.compute_losses(features, outputs)["target"]
    for weighted, factor in ((stored, 2.0), (half, 0.5)):
        loss = model.compute_losses(weighted, outputs)["target"]
        np.testing.assert_allclose(loss, factor * plain, rtol=1e-6)


def test_a_loss_or_wrong_class_weights_are_refused_by_a_sentence():
    model = make_model("din", make_schema())
    with pytest.raises(ValueError, match="leave loss out of compile"):
        model.compile("adam", "binary_crossentropy")
    model.compile("adam")
    for wrong in ({0: 1.0}, {0: 1.0, 1: -2.0}, {0: 1.0, 1: float("inf")}, {1: 1.0, 2: 2.0}):
        with pytest.raises(ValueError, match="expected class_weight as {0: weight, 1: weight}"):
            model.fit(tf.data.Dataset.from_tensors(batch()), class_weight=wrong)


@pytest.mark.parametrize("name", ["din", "dien"])
def test_the_list_that_evaluate_returns_has_the_names_of_its_metrics(name):
    model = make_model(name, make_schema())
    model.compile("adam", metrics=[tf.keras.metrics.AUC(name="auc")])
    model.fit(tf.data.Dataset.from_tensors(batch()), verbose=0)  # with DIEN's auxiliary loss
    data = tf.data.Dataset.from_tensors(plain_batch())  # and without
    values = model.evaluate(data, verbose=0)
    assert model.metrics_names == ["loss", "target", "auc"]
    by_name = model.evaluate(data, verbose=0, return_dict=True)
    assert dict(zip(model.metrics_names, values, strict=True)) == pytest.approx(by_name)


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


def test_weights_are_read_and_counted_before_the_first_call(tmp_path):
    model = make_model("din", make_schema())
    model_scores = scores(model, batch())
    model.save_weights(tmp_path / "din.weights.h5")

    def another():
        return make_model("din", make_schema())

    assert another().count_params() == model.count_params()
    another().summary(print_fn=lambda line: None)
    loaded, assigned = another(), tf.keras.models.clone_model(model)
    loaded.load_weights(tmp_path / "din.weights.h5")
    assigned.set_weights(model.get_weights())
    for other in (loaded, assigned):
        np.testing.assert_array_equal(scores(other, batch()), model_scores)


@pytest.mark.parametrize(
    ("name", "feature", "message"),
    [
        ("din", "hist_item_id", "expected the batch features ['hist_item_id']; got"),
        ("din", "cand_category_id", "expected the batch features ['cand_category_id']; got"),
        ("dgin", "hist_category_id", "expected the batch features ['hist_category_id']; got"),
        ("dgin", "hist_timestamp", "expected the history features ['timestamp']; got"),
        ("dgin", "cand_timestamp", "expected the candidate features ['timestamp']; got"),
        ("twin", "cand_timestamp", "expected the candidate features ['timestamp']; got"),
    ],
)
def test_a_batch_without_a_feature_is_refused_by_a_sentence(name, feature, message):
    model = make_model(name, make_schema())
    features = {key: value for key, value in batch().items() if key != feature}
    with pytest.raises(ValueError, match=re.escape(message)):
        model(features)


def test_candidates_that_are_no_matrix_are_refused_by_a_sentence():
    features = {
        key: value[:, 0] if key.startswith("cand_") else value for key, value in batch().items()
    }
    with pytest.raises(ValueError, match="cand_item_id must be a matrix, a row for each user"):
        make_model("din", make_schema())(features)


def test_masks_may_be_numbers():
    model, features = make_model("din", make_schema()), batch()
    masks = {name: tf.cast(features[name], tf.int32) for name in ("hist_mask", "cand_mask")}
    np.testing.assert_array_equal(scores(model, {**features, **masks}), scores(model, features))


@pytest.mark.parametrize("name", ["din", "dgin"])
def test_arrays_are_encoded_and_adapted_to_as_tensors_are(name):
    settings = {"boundaries": "learned", "buckets": 4} if name == "dgin" else {}
    model = make_model(name, make_schema(), **settings)
    arrays = {key: value.numpy() for key, value in batch().items()}
    model.adapt([arrays])
    logits = model.score(model.encode_user(arrays), arrays)["logits"]
    np.testing.assert_allclose(logits, model(batch())["logits"], rtol=1e-5, atol=1e-6)


def test_a_subclass_whose_argument_is_no_attribute_is_told_so():
    class Forgetful(CTRModel):
        def __init__(self, schema, config=None, width=3, **kwargs):
            super().__init__(schema, {"interest": AttendedHistory()}, config, **kwargs)

    model = Forgetful(make_schema())
    with pytest.raises(NotImplementedError, match="set self.width in __init__"):
        model.get_config()
    model.width = 3
    assert model.get_config()["width"] == 3
    Forgetful.from_config(model.get_config())


def test_a_module_of_dgin_is_not_replaced_in_silence():
    model = make_model("dgin", make_schema())
    for name in ("group_module", "target_module"):
        with pytest.raises(AttributeError, match=name):
            setattr(model, name, None)


def test_a_model_whose_encoders_were_replaced_is_not_configured_in_silence():
    model = make_model("din", make_schema())
    model.encoders["interest"] = AttendedHistory()
    with pytest.raises(ValueError, match="encoders of a DIN are .* constructed with; got others"):
        model.get_config()
