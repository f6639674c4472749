"""Every model reads the columns that data declare: of items, of users and of requests."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.models import registry
from dgin_tf.schema import CANDIDATE, CONTEXT, FIRST_ID, HISTORY, USER, Field, Schema
from tests.conformance.catalogue import (
    BACKBONE,
    CANDIDATES,
    CATALOGUE,
    TIME,
    USERS_IN_BATCH,
    batch,
    schema_of,
)

BOTH = (HISTORY, CANDIDATE)
COLUMNS = (
    Field("tags", BOTH, "tags", values=3, is_column=True),
    Field("price", BOTH, moments=(5.0, 2.0), is_column=True),
    Field("user_age", (USER,), "user_age", boundaries=(20.0, 40.0), is_column=True),
    Field("user_income", (USER,), moments=(100.0, 30.0), is_column=True),
    Field("context_hour", (CONTEXT,), "context_hour", is_column=True),
    Field("context_words", (CONTEXT,), "context_words", values=2, is_column=True),
)
SIZES = {"tags": 11, "user_age": 5, "context_hour": 7, "context_words": 9}
ENTRIES = sorted(set(CATALOGUE) & set(registry.MODELS)) + ["dgin-items", "sim_hard-time"]
FEW = ("din", "sim_hard", "dien", "mimn", "dgin")


def with_columns(schema: Schema) -> Schema:
    """A schema with columns of every kind besides."""
    sizes = {**schema.vocabulary_sizes, **SIZES}
    return dataclasses.replace(schema, fields=(*schema.fields, *COLUMNS), vocabulary_sizes=sizes)


def values_of(field: Field, shape: tuple[int, ...], random: np.random.Generator) -> tf.Tensor:
    """Random values of a column; some multi-valued ones hold fewer ids, some numbers are unknown."""
    if field.is_standardized:
        numbers = random.normal(*field.moments, shape)
        return tf.constant(np.where(random.random(shape) < 0.2, np.nan, numbers), tf.float32)
    ids = random.integers(FIRST_ID, SIZES[field.vocabulary], (*shape, *field.shape))
    if field.shape:
        ids[..., -1] *= random.integers(0, 2, shape)
    return tf.constant(ids, tf.int32)


def batch_with_columns(seed: int = 1) -> dict[str, tf.Tensor]:
    """The catalogue's batch with the columns."""
    features, random = dict(batch(seed=seed)), np.random.default_rng(seed)
    history, candidates = (USERS_IN_BATCH, TIME), (USERS_IN_BATCH, CANDIDATES)
    for field in COLUMNS:
        if field.roles == BOTH:
            features[f"hist_{field.name}"] = values_of(field, history, random)
            features[f"hist_negative_{field.name}"] = values_of(field, history, random)
            features[f"cand_{field.name}"] = values_of(field, candidates, random)
        else:
            features[field.name] = values_of(field, (USERS_IN_BATCH,), random)
    return features


def make_model(entry: str):
    """A built model over the columns, with weights that make every part of it matter."""
    name, settings = CATALOGUE[entry]
    if entry.startswith("dien"):  # its auxiliary loss multiplies states by events
        settings = {**settings, "units": 4 * BACKBONE.embedding_dim}
    tf.keras.utils.set_random_seed(0)
    model = registry.make_model(name, with_columns(schema_of(entry)), BACKBONE, **settings)
    model.build()
    random = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(random.normal(0, 0.3, variable.shape))
    return model


def check_reads_columns(entry: str) -> None:
    model, features = make_model(entry), batch_with_columns()
    score = tf.function(lambda features: model(features)["logits"], autograph=False)
    logits = score(features).numpy()
    assert np.isfinite(logits).all()
    other = batch_with_columns(seed=2)
    for field in COLUMNS:
        names = [name for name in features if name.removeprefix("cand_") == field.name]
        changed = score({**features, **{name: other[name] for name in names}}).numpy()
        assert np.isfinite(changed).all()
        assert np.abs(changed - logits).max() > 1e-6, field.name
    # Events too, and nothing under padding: what is stored there does not matter.
    mask = features["hist_mask"]
    for field in COLUMNS[:2]:
        name = f"hist_{field.name}"
        real = tf.reshape(mask, [*mask.shape, *[1] * len(field.shape)])
        padding = tf.where(real, features[name], other[name])
        np.testing.assert_allclose(score({**features, name: padding}), logits, atol=1e-5)
        changed = score({**features, name: other[name]}).numpy()
        assert np.abs(changed - logits).max() > 1e-6, name
    with tf.GradientTape() as tape:
        parts = model.compute_losses(features, model(features, training=True))
        loss = tf.add_n(list(parts.values()))
    gradients = tape.gradient(loss, model.embedding_variables)
    for gradient in gradients:
        assert gradient is None or np.isfinite(tf.convert_to_tensor(gradient)).all()


@pytest.mark.parametrize("entry", FEW)
def test_scores_depend_on_every_column(entry):
    check_reads_columns(entry)


@pytest.mark.slow
@pytest.mark.parametrize("entry", [entry for entry in ENTRIES if entry not in FEW])
def test_scores_of_all_other_models_depend_on_every_column(entry):
    check_reads_columns(entry)
