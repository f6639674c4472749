"""Every model and every layer of the package, small enough to be tested against every property."""

import dataclasses
import functools
import importlib
import inspect
import pkgutil

import numpy as np
import tensorflow as tf

import dgin_tf.layers
import dgin_tf.released
from dgin_tf.models import registry
from dgin_tf.models.base import CTRModel, ModelConfig
from dgin_tf.schema import FIRST_ID, HISTORY, Field, Schema
from tests.prepared import CATEGORIES, ITEMS, USERS, category_of, make_schema

BACKBONE = ModelConfig(embedding_dim=3, user_fields=("user_id",), tower_units=(11, 5))
BEHAVIOR_TYPES = ("view", "cart", "buy")
USERS_IN_BATCH, TIME, CANDIDATES = 4, 7, 3

# What reads the newest events, where that is another reader than the model's own.
DIN_READS = {"short_reader": "din", "softmax": True}
HEADS_READ = {"short_reader": "heads", "heads": 3, "softmax": True}

# Model name -> settings that make it small. A model without an entry fails the catalogue's test, and
# so does a setting that neither these nor the variants below set to another value than its default.
SMALL = {
    "base_model": {},
    "wide_deep": {"buckets": 127},
    "pnn": {},
    "din": {"units": (5,)},
    "two_layer_gru_attention": {"units": 5},
    "aigru": {"units": 5},
    "agru": {"units": 5},
    "augru": {"units": 5},
    "dien": {"units": 2 * BACKBONE.embedding_dim, "auxiliary_weight": 0.5},
    "rocket_launching": {"units": (4, 7), "hint_weight": 0.5},
    "eta": {"k": 2, "bits": 11, "short_events": 2, "heads": 3, "seed": 2, **DIN_READS},
    "eta_encode": {
        "k": 2,
        "dim": 2,
        "short_events": 2,
        "loss": "n_pair",
        "sampling": "neighbors",
        "anchors": 2,
        "auxiliary_weight": 0.5,
        "heads": 3,
        "seed": 2,
        **DIN_READS,
    },
    "eta_ta": {"k": 2, "short_events": 2, "heads": 3, **DIN_READS},
    "sdim": {"bits": 6, "tau": 2, "short_events": 2, "heads": 3, "seed": 2},
    "twin": {"k": 2, "heads": 3, "short_events": 2},
    "ubr4ctr": {
        "k": 2,
        "selection_heads": 3,
        "short_events": 2,
        "heads": 3,
        "seed": 2,
        **DIN_READS,
    },
    "sim_hard": {"k": 3, "short_events": 2},
    "sim_soft": {"k": 2, "short_events": 3, "dim": 5},
    "sim_hard_first_stage": {"k": 3, "field": "item_id", "short_events": 2, **HEADS_READ},
    "sim_soft_first_stage": {
        "k": 2,
        "short_events": 3,
        "dim": 5,
        "auxiliary_weight": 0.5,
        "sample": 2,
        **HEADS_READ,
    },
    "avg_pooling_long_din": {"short_events": 3, **HEADS_READ},
    "din_long": {"short_events": 2, **HEADS_READ},
    "sim_tm": {"k": 4, "field": "item_id", "short_events": 2, **HEADS_READ},
    "dgin": {"key": "category_id", "groups": 5, "events": 3, "target_events": 4, "heads": 3},
    "dsin": {"sessions": 4, "events": 3, "heads": 3, "gap": 200_000},
    "tem4ctr": {"clicks": 3, "nearest": 2, "units": (5, 4)},
    "dmt": {"clicks": 4, "others": 3, "heads": 3},
    "ninn": {"parts": 3, "units": (5,), "heads": 3},
    "dmbin": {"clicks": 4, "others": 3, "heads": 3},
    "encode": {"clusters": 2, "dim": 2, "short_events": 2, "beta": 0.5, "rounds": 3},
    "mimn": {"slots": 3, "units": 5},
    "rum": {"slots": 3, "strength": 2.0},
    "gru4rec": {"units": 5},
    "arnn": {},
}
# The authors' released models have the settings of the papers' that they have at all.
SMALL |= {
    released: {
        key: value
        for key, value in SMALL[released.removesuffix("_released")].items()
        if key in registry.settings(released)
    }
    for released in registry.MODELS
    if released.endswith("_released")
}
SMALL["dien_released"]["units"] = 5  # no inner product there, that needs the width of an event
SMALL["rocket_launching_released"]["gradient_block"] = False
SMALL["sim_hard_released"]["field"] = "item_id"
SMALL["twin_released"] |= DIN_READS
# Variants that are models of their own right: "name" in the registry -> settings.
VARIANTS = {}
VARIANTS["sim_hard-time"] = (
    "sim_hard",
    {**SMALL["sim_hard"], "time": True, "softmax": True, "heads": 3},
)
VARIANTS["sim_soft-time"] = (
    "sim_soft",
    {**SMALL["sim_soft"], "time": True, "softmax": True, "heads": 3},
)
VARIANTS["sim_soft-sample"] = (
    "sim_soft",
    {**SMALL["sim_soft"], "sample": 2, "auxiliary_weight": 0.5, **HEADS_READ},
)
VARIANTS["sim_hard-backfill"] = (
    "sim_hard",
    {**SMALL["sim_hard"], "backfill": True, "field": "item_id", **HEADS_READ},
)
VARIANTS["dgin-simple"] = (
    "dgin",
    {**SMALL["dgin"], "statistical": False, "aggregated": False, "target_module": False},
)
VARIANTS["dgin-statistical"] = (
    "dgin",
    {**SMALL["dgin"], "aggregated": False, "target_module": False},
)
VARIANTS["dgin-aggregated"] = ("dgin", {**SMALL["dgin"], "target_module": False})
VARIANTS["dgin-items"] = ("dgin", {**SMALL["dgin"], "key": "item_id"})
VARIANTS["dgin-session"] = (
    "dgin",
    {**SMALL["dgin"], "key": "session", "target_module": False},
)
VARIANTS["dgin-options"] = (
    "dgin",
    {
        **SMALL["dgin"],
        "boundaries": "learned",
        "buckets": 5,
    },
)
VARIANTS["dsin-positions"] = ("dsin", {**SMALL["dsin"], "bias_encoding": False})
VARIANTS["mimn-plain"] = ("mimn", {"slots": 2, "utilization_weight": 0.0, "top_k": 0})
VARIANTS["mimn-two_channels-auxiliary"] = (
    "mimn",
    {"slots": 3, "top_k": 2, "auxiliary_weight": 0.5},
)
VARIANTS["mimn-learned_sharpness"] = (
    "mimn",
    {"slots": 3, "units": 5, "normalize_usage": True, "stop_gradient": True, "sharpness": 0.0},
)
VARIANTS["mimn-auxiliary_released"] = (
    "mimn_released",
    {
        **SMALL["mimn_released"],
        "auxiliary_weight": 0.5,
        "utilization_weight": 0.5,
        "top_k": 0,
    },
)
VARIANTS["encode-minus"] = (
    "encode",
    {
        **SMALL["encode"],
        "metric": "dot",
        "sampling": "neighbors",
        "anchors": 2,
        "auxiliary_weight": 0.5,
        **HEADS_READ,
    },
)
VARIANTS["encode-routed-without_loss"] = (
    "encode",
    {
        **SMALL["encode"],
        "clustering": "dynamic_routing",
        "loss": "none",
        "metric": "printed",
        "stop_gradient": False,
        "softmax": True,
        "seed": 2,
    },
)
VARIANTS["base_model-mean"] = ("base_model", {"mean": True})
VARIANTS["pnn-both"] = ("pnn", {"products": "both", "order": 2})
VARIANTS["din-softmax"] = ("din", {**SMALL["din"], "activation": "prelu", "softmax": True})
VARIANTS["din-sum_released"] = (
    "din_released",
    {**SMALL["din_released"], "activation": "dice", "softmax": False},
)
VARIANTS["dsin-positions_released"] = (
    "dsin_released",
    {**SMALL["dsin_released"], "bias_encoding": False},
)
VARIANTS["rocket_launching-without_block"] = (
    "rocket_launching",
    {**SMALL["rocket_launching"], "gradient_block": False},
)
VARIANTS["sdim-count"] = ("sdim", {**SMALL["sdim"], "norm": "count", **DIN_READS})
VARIANTS["twin-din"] = ("twin", {**SMALL["twin"], **DIN_READS})
VARIANTS["ninn-items"] = ("ninn", {**SMALL["ninn"], "field": "item_id"})
VARIANTS["tem4ctr-types"] = ("tem4ctr", {**SMALL["tem4ctr"], "click": BEHAVIOR_TYPES[0]})
VARIANTS["dmt-types"] = ("dmt", {**SMALL["dmt"], "click": BEHAVIOR_TYPES[0]})
VARIANTS["dmbin-types"] = (
    "dmbin",
    {**SMALL["dmbin"], "click": "cart", "contrast_weight": 0.5, "temperature": 0.5},
)
CATALOGUE = {**{name: (name, settings) for name, settings in SMALL.items()}, **VARIANTS}


def schema_of(entry: str) -> Schema:
    """The schema that a model is built for: events have types where the model reads them."""
    schema, (name, settings) = make_schema(), CATALOGUE[entry]
    if name != "dgin" and "click" not in settings:
        return schema
    field = Field("behavior_type", (HISTORY,), "behavior_type")
    sizes = {**schema.vocabulary_sizes, "behavior_type": FIRST_ID + len(BEHAVIOR_TYPES)}
    return dataclasses.replace(
        schema,
        fields=(*schema.fields, field),
        vocabulary_sizes=sizes,
        behavior_types=BEHAVIOR_TYPES,
    )


def build(entry: str, seed: int = 0) -> CTRModel:
    """A built model with weights that make every part of it matter."""
    name, settings = CATALOGUE[entry]
    tf.keras.utils.set_random_seed(
        seed
    )  # of what is drawn once and not trained, such as hash planes
    model = registry.make_model(name, schema_of(entry), BACKBONE, **settings)
    model(batch())
    random = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        variable.assign(random.normal(0, 0.3, variable.shape))
    return model


@functools.cache
def built(entry: str) -> CTRModel:
    """As `build`, once a process: for tests that leave weights and moving statistics as they are."""
    return build(entry)


@functools.cache
def in_training(entry: str) -> CTRModel:
    """As `built`, another one: for tests that move nothing but moving statistics."""
    return build(entry)


def batch(users: int = USERS_IN_BATCH, time: int = TIME, seed: int = 1) -> dict[str, tf.Tensor]:
    """A training batch: ragged histories, the last user's empty, and one padded candidate."""
    random = np.random.default_rng(seed)
    length = np.append(random.integers(1, time + 1, users - 1), 0)
    length[0] = time
    mask = np.arange(time) < length[:, None]
    features = {"user_id": random.integers(2, USERS, users), "hist_mask": mask}
    for prefix, shape in (
        ("hist_", (users, time)),
        ("hist_negative_", (users, time)),
        ("cand_", (users, CANDIDATES)),
    ):
        item = random.integers(2, ITEMS, shape)
        if prefix == "hist_":  # one that comes back, for groups of items
            item[0, min(4, time - 1)] = item[0, 2]
            # And another one of its category: attention among equal events has no gradient.
            apart = CATEGORIES - FIRST_ID
            item[0, 1] = item[0, 2] + (apart if item[0, 2] + apart < ITEMS else -apart)
        if prefix == "cand_":  # one whose category the first user met before, for searches by it
            item[0, 0] = features["hist_item_id"][0, 2]
        features[prefix + "item_id"] = item
        features[prefix + "category_id"] = category_of(item)
    features["hist_timestamp"] = np.sort(random.integers(1, 10**6, (users, time)))
    kinds = np.random.default_rng([seed, 1])  # so that all else is drawn as without types
    types = kinds.integers(FIRST_ID, FIRST_ID + len(BEHAVIOR_TYPES), (users, time))
    # Two events of two types in turn: attention among fewer of a type, or equal ones, learns nothing.
    types[2:3, :4] = np.tile([FIRST_ID, FIRST_ID + 1], 2)[:time]
    features["hist_behavior_type"] = types
    features["cand_timestamp"] = np.full((users, CANDIDATES), 10**6)
    features["cand_mask"] = np.ones((users, CANDIDATES), bool)
    features["cand_mask"][1, -1] = False
    features["label"] = random.integers(0, 2, (users, CANDIDATES)).astype(np.float32)
    for name, values in features.items():
        if name.startswith("hist_") and name != "hist_mask":
            features[name] = np.where(mask, values, 0)
    return {
        name: tf.constant(
            v, tf.int64 if name.endswith("timestamp") else None if v.dtype != np.int64 else tf.int32
        )
        for name, v in features.items()
    }


def with_padding_ids(features: dict[str, tf.Tensor], seed: int = 2) -> dict[str, tf.Tensor]:
    """The same batch with arbitrary real ids stored under the padding."""
    random = np.random.default_rng(seed)
    sizes = {"item_id": ITEMS, "category_id": CATEGORIES, "timestamp": 10**6, "behavior_type": 5}
    changed = dict(features)
    for prefix, mask in (
        ("hist_", "hist_mask"),
        ("hist_negative_", "hist_mask"),
        ("cand_", "cand_mask"),
    ):
        for field, size in sizes.items():
            if (name := prefix + field) in features:
                other = tf.constant(
                    random.integers(2, size, features[name].shape), features[name].dtype
                )
                changed[name] = tf.where(features[mask], features[name], other)
    return changed


def padded_on_the_left(features: dict[str, tf.Tensor], extra: int = 2) -> dict[str, tf.Tensor]:
    """The same histories, moved to the right end of a longer time axis."""
    mask = features["hist_mask"].numpy()
    length = mask.sum(axis=1)
    moved = dict(features)
    for name, values in features.items():
        if name.startswith("hist_"):
            out = np.zeros((len(mask), mask.shape[1] + extra), values.numpy().dtype)
            for row, count in enumerate(length):
                out[row, out.shape[1] - count :] = values.numpy()[row, :count]
            moved[name] = tf.constant(out)
    return moved


def public_layers() -> dict[str, type]:
    """Every public Keras layer class defined in dgin_tf.layers and dgin_tf.released, by name."""
    found = {}
    for module in [
        *pkgutil.walk_packages(dgin_tf.layers.__path__, "dgin_tf.layers."),
        *pkgutil.walk_packages(dgin_tf.released.__path__, "dgin_tf.released."),
    ]:
        for name, item in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if (
                issubclass(item, tf.keras.layers.Layer)
                and not issubclass(item, tf.keras.Model)
                and item.__module__ == module.name
                and not name.startswith("_")
            ):
                found[name] = item
    return found
