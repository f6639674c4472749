"""DGIN whole, on a log of several behavior types in which items come back."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.group_spec import StatisticsSpec
from dgin_tf.layers.events import History
from dgin_tf.layers.group_statistics import GroupStatistics
from dgin_tf.layers.groups import GroupAggregation, GroupModule
from dgin_tf.layers.time_gap import gap_starts
from dgin_tf.models.dgin import DGIN, event_attributes
from dgin_tf.models.registry import make_model
from dgin_tf.schema import FIRST_ID, HISTORY, Field
from tests.conformance.catalogue import BACKBONE
from tests.models.test_searching_models import with_behavior_types
from tests.prepared import category_of, make_schema

SCHEMA, FEATURES = with_behavior_types()
SMALL = {"groups": 5, "events": 3, "target_events": 4, "heads": 2}
VIEW = 2


def log_of_few_items():
    """Items that come back, among them candidates."""
    random = np.random.default_rng(0)
    features = dict(FEATURES)
    for prefix in ("hist_", "cand_"):
        item = random.integers(2, 5, features[prefix + "item_id"].shape)
        item = np.where(features[prefix + "mask"], item, 0)
        features[prefix + "item_id"] = tf.constant(item, tf.int32)
        features[prefix + "category_id"] = tf.constant(
            np.where(item > 0, category_of(item), 0), tf.int32
        )
    return features


LOG = log_of_few_items()


def transform(model, features):
    """A batch as it is read for a model."""
    (group,) = model.input_transforms
    return group(features)


def build(schema=SCHEMA, features=LOG, behavior_types=(), **settings):
    config = dataclasses.replace(BACKBONE, behavior_types=behavior_types)
    model = make_model("dgin", schema, config, **{**SMALL, **settings})
    model(features)
    random = np.random.default_rng(1)
    for variable in model.trainable_variables:
        variable.assign(random.normal(0, 0.3, variable.shape))
    return model


@pytest.mark.parametrize("key", ["item_id", "category_id"])
def test_every_weight_learns_from_a_log_of_several_types(key):
    model = build(key=key)
    with tf.GradientTape() as tape:
        losses = model.compute_losses(LOG, model(LOG, training=True))
        loss = tf.add_n(list(losses.values()))
    gradients = tape.gradient(loss, model.trainable_variables)
    names = [variable.name for variable in model.trainable_variables]
    assert sum("behavior_type" in name for name in names) == 2  # of groups and of the target
    dead = [
        name
        for name, gradient in zip(names, gradients, strict=True)
        if gradient is None or not np.any(tf.convert_to_tensor(gradient))
    ]
    assert dead == []


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({"statistical": False, "aggregated": False, "target_module": False}, (False, False, 1)),
        ({"aggregated": False, "target_module": False}, (True, False, 1)),
        ({"target_module": False}, (True, True, 1)),
        ({}, (True, True, 2)),
    ],
)
def test_the_rows_of_table_3_have_their_parts(settings, parts):
    model = build(**settings)
    module = model.encoders["group_module"]
    found = module.statistics is not None, module.aggregation is not None, len(model.encoders)
    assert found == parts


TRANSFORMED = [
    {},
    {"key": "session", "target_module": False},
    {"groups": 1, "events": 1, "target_events": 1},
    *(
        pytest.param(settings, marks=pytest.mark.slow)
        for settings in (
            {"key": "category_id"},
            {"key": "category_id", "target_module": False},
            {"aggregated": False, "behavior_types": ("view",)},
            {"groups": 50, "events": 50, "target_events": 50},
        )
    ),
]


def losses_and_gradients(model, features):
    with tf.GradientTape() as tape:
        outputs = model(features, training=True)
        loss = tf.add_n(list(model.compute_losses(features, outputs).values()))
    found = tape.gradient(loss, model.trainable_variables)
    return outputs["logits"], [tf.convert_to_tensor(gradient) for gradient in found]


@pytest.mark.parametrize("settings", TRANSFORMED, ids=str)
def test_a_grouped_batch_has_the_scores_and_gradients_of_the_whole_one(settings):
    model = build(**settings)
    (group,) = model.input_transforms
    grouped = tf.function(group, autograph=False)(LOG)
    expected, gradients = losses_and_gradients(model, LOG)
    found, own = losses_and_gradients(model, grouped)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    for gradient, wanted in zip(own, gradients, strict=True):
        np.testing.assert_allclose(gradient, wanted, rtol=1e-4, atol=1e-6)


def test_by_default_no_event_is_without_a_group():
    for model in (make_model("dgin", SCHEMA, BACKBONE, key="item_id"), DGIN(SCHEMA, BACKBONE)):
        counts = transform(model, FEATURES)["groups"].statistics["count"]
        known = FEATURES["hist_mask"] & (FEATURES["hist_item_id"] >= FIRST_ID)
        np.testing.assert_array_equal(np.sum(counts, 1), np.sum(known.numpy(), 1))


@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize("settings", [{}, {"aggregated": False, "target_module": False}], ids=str)
def test_a_limit_that_leaves_events_out_is_warned_of_with_their_share(settings, grouped, caplog):
    model = build(groups=2, **settings)
    batch = {**LOG, "hist_item_id": FEATURES["hist_item_id"]}
    kept = known = users = 0
    for items, mask in zip(batch["hist_item_id"].numpy(), batch["hist_mask"].numpy(), strict=True):
        items = [item for item in items[mask] if item >= FIRST_ID]
        newest = list(dict.fromkeys(reversed(items)))[:2]
        known, users = known + len(items), users + (len(set(items)) > 2)
        kept += sum(item in newest for item in items)
    batch = transform(model, batch) if grouped else batch
    model.adapt([batch, {"parts": (batch, batch)}])
    (text,) = (record.getMessage() for record in caplog.records)
    rows = len(LOG["hist_mask"])
    assert f"groups=2 leaves events out: {100 * users / rows:.1f}% of the users" in text
    assert f"{100 * (1 - kept / known):.1f}% of all events" in text
    assert f"sample of {3 * rows} users" in text


@pytest.mark.parametrize("groups", [None, 50])
def test_a_limit_that_leaves_nothing_out_is_not_warned_of(groups, caplog):
    model = build(groups=groups)
    model.adapt([LOG])
    model.adapt([])
    assert not caplog.records


def test_parts_of_a_batch_have_their_own_numbers_of_groups():
    model = build(groups=None)
    short = {n: v[:, :3] if n.startswith("hist_") else v for n, v in LOG.items()}
    parts = tuple(transform(model, part) for part in (short, LOG))
    time = LOG["hist_mask"].shape[1]
    assert [part["groups"].mask.shape[1] for part in parts] == [3, time]
    logits = model({"parts": parts})["logits"]
    wanted = tf.concat([model(part)["logits"] for part in (short, LOG)], axis=0)
    np.testing.assert_allclose(logits, wanted, rtol=1e-5, atol=1e-6)


def test_a_grouped_batch_holds_no_events_that_no_candidate_searches_for():
    model = build()
    grouped = transform(model, LOG)
    candidates = LOG["cand_item_id"].numpy()
    for user, mask in enumerate(grouped["hist_mask"].numpy()):
        assert set(grouped["hist_item_id"].numpy()[user, mask]) <= set(candidates[user])
    np.testing.assert_array_equal(
        grouped["history_length"], np.sum(LOG["hist_mask"].numpy(), axis=1)
    )
    assert "gap" in grouped["groups"].attributes


def test_one_giant_group_counts_everything_and_reads_the_newest_events():
    model = build(key="category_id", events=2)
    one = {**LOG, "hist_category_id": tf.where(LOG["hist_mask"], 5, 0)}
    groups = transform(model, one)["groups"]
    length = np.sum(LOG["hist_mask"].numpy(), axis=1)
    np.testing.assert_array_equal(groups.statistics["count"][:, 0], length)
    assert not np.any(groups.mask[:, 1:])
    found = np.sum(groups.event_mask.numpy(), axis=(1, 2))
    np.testing.assert_array_equal(found, np.minimum(length, 2))


def test_a_candidate_without_a_group_of_its_own_has_no_target_interest():
    model = build()
    features = {**LOG, "cand_item_id": tf.fill(LOG["cand_item_id"].shape, 99)}
    for batch in (features, transform(model, features)):
        outputs = model(batch)
        assert not np.any(outputs["outputs"]["target_module"]["topk_mask"])
        assert np.all(np.isfinite(outputs["logits"]))
    module = model.target_module
    state = model.encode_user(features)["target_module"]
    assert not np.any(module.interest(state, model.embedding.target(features))["interest"])


def test_counts_beyond_the_last_boundary_are_in_the_last_bucket():
    layer = GroupStatistics(dim=3, bin_boundaries={"count": [1, 4]})
    given = {name: tf.constant([[4, 10**6]]) for name in layer.names}
    few, many = layer(given, tf.constant([[True, True]])).numpy()[0]
    np.testing.assert_array_equal(few[: layer.dim], many[: layer.dim])


def test_an_event_of_an_unknown_type_counts_but_for_no_type():
    model = build()
    types = {**LOG, "hist_behavior_type": tf.where(LOG["hist_mask"], 1, 0)}
    statistics, expected = (
        transform(model, features)["groups"].statistics for features in (types, LOG)
    )
    np.testing.assert_array_equal(statistics["count"], expected["count"])
    for name in ("types", "count_view", "count_cart", "count_buy"):
        assert not np.any(statistics[name])
    assert np.all(np.isfinite(model(types)["logits"]))


@pytest.mark.parametrize("key", ["item_id", "category_id"])
def test_events_whose_key_is_out_of_vocabulary_are_no_interest(key):
    model = build(key=key)
    is_unknown = LOG["hist_mask"] & (tf.range(LOG["hist_mask"].shape[1]) % 3 == 2)
    unknown = {**LOG, f"hist_{key}": tf.where(is_unknown, 1, LOG[f"hist_{key}"])}
    left_out = {**LOG, "hist_mask": LOG["hist_mask"] & ~is_unknown}
    expected = model(left_out)["logits"]
    for batch in (unknown, transform(model, unknown)):
        np.testing.assert_allclose(model(batch)["logits"], expected, rtol=1e-5, atol=1e-6)
    assert not np.any(transform(model, unknown)["groups"].keys == 1)


def test_clicks_alone_are_all_that_a_click_only_model_sees():
    model = build(behavior_types=("view",))
    expected = model(LOG)["logits"]
    is_view = LOG["hist_behavior_type"] == VIEW
    other = {
        name: tf.where(is_view, value, tf.ones_like(value) * 4)
        for name, value in LOG.items()
        if name in ("hist_item_id", "hist_category_id")
    }
    np.testing.assert_array_equal(model({**LOG, **other})["logits"], expected)
    assert np.any(np.abs(build()({**LOG, **other})["logits"] - build()(LOG)["logits"]) > 1e-3)
    module = model.group_module
    assert module.statistics.names == ["count"]
    assert module.attributes.behavior_types == 0


def test_statistics_are_of_the_types_that_are_seen():
    model = build(behavior_types=("buy", "view"))
    statistics = model.encoders["group_module"].statistics
    assert statistics.names == ["count", "types", "count_buy", "count_view"]
    assert statistics.statistics.behavior_types == (("buy", 4), ("view", 2))


def test_boundaries_are_learned_from_groups_of_all_batches_whichever_were_grouped():
    learned = []
    for batches in ([LOG, FEATURES], [FEATURES, LOG]):
        model = build(boundaries="learned", buckets=3)
        assert model.group_module.statistics.num_bins == 3
        parameters = model.count_params()
        model.adapt([batches[0], transform(model, batches[1])])
        assert model.count_params() == parameters
        learned.append(model.group_module.statistics.learned_boundaries.numpy())
    np.testing.assert_array_equal(*learned)
    before = build(boundaries="learned", buckets=3)
    assert np.any(learned[0] != before.group_module.statistics.learned_boundaries.numpy())


def test_learned_boundaries_are_saved_with_the_model(tmp_path):
    model = build(boundaries="learned", buckets=3)
    unlearned = model(LOG)["logits"]
    model.adapt([LOG])
    expected = model(LOG)["logits"]
    assert np.any(np.abs(expected - unlearned) > 1e-4)
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "weights" / "checkpoint")
    model.save(str(tmp_path / "model"), save_format="tf")
    copies = [
        tf.keras.models.load_model(tmp_path / "model.keras"),
        build(boundaries="learned", buckets=3),
        tf.keras.models.load_model(str(tmp_path / "model")),
    ]
    copies[1].load_weights(tmp_path / "weights" / "checkpoint").expect_partial()
    for copy in copies:
        np.testing.assert_allclose(copy(LOG)["logits"], expected, rtol=1e-6, atol=1e-6)


def test_the_cached_groups_do_not_know_the_candidate():
    model = build()
    states = [
        model.encode_user({**LOG, "cand_timestamp": LOG["cand_timestamp"] + late})
        for late in (0, 10**7)
    ]
    for value, other in zip(*map(tf.nest.flatten, states), strict=True):
        np.testing.assert_array_equal(value, other)
    later = {**LOG, "cand_timestamp": LOG["cand_timestamp"] + 10**7}
    assert np.any(np.abs(model(later)["logits"] - model(LOG)["logits"]) > 1e-4)


def test_sim_tm_reads_types_of_what_it_finds_before_the_newest_events():
    model = make_model("sim_tm", SCHEMA, BACKBONE, k=4, short_events=1)
    expected = model(LOG)["logits"]
    changed = {**LOG, "hist_behavior_type": 6 - LOG["hist_behavior_type"]}
    assert np.any(np.abs(model(changed)["logits"] - expected) > 1e-5)
    state = model.encode_user(LOG)
    assert "behavior_type" in state["interest"]["long"]["events"]
    for start in (3, 5):
        parts = [
            {name: value[:, part] for name, value in LOG.items() if name.startswith("hist_")}
            for part in (slice(start), slice(start, None))
        ]
        state = model.update_user(model.encode_user({**LOG, **parts[0]}), parts[1])
        found = model.score(state, LOG)["logits"]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"key": "shop_id"}, r"a field among \['item_id', 'category_id'\]; got 'shop_id'"),
        ({"key": "session"}, "set target_module=False with key='session'"),
        ({"boundaries": "equal"}, "must be 'logarithmic' or 'learned'; got 'equal'"),
        ({"boundaries": "learned", "statistical": False}, "got a model without"),
    ],
)
def test_what_the_data_do_not_have_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        make_model("dgin", SCHEMA, BACKBONE, **settings)


def test_without_types_and_times_only_items_can_tell_events_apart():
    schema = make_schema()
    bare = type(schema)(schema.fields[:-1], schema.vocabulary_sizes, schema.max_history)
    with pytest.raises(ValueError, match="set aggregated=False"):
        DGIN(bare, BACKBONE)
    with pytest.raises(ValueError, match="needs times of events"):
        make_model("dgin", bare, BACKBONE, key="session", target_module=False)
    assert np.all(np.isfinite(build(bare, key="category_id")(LOG)["logits"]))


def test_amounts_of_the_schema_are_statistics_whose_mean_moves_scores():
    schema = dataclasses.replace(SCHEMA, fields=(*SCHEMA.fields, Field("dwell", (HISTORY,))))
    shape, random = LOG["hist_item_id"].shape, np.random.default_rng(2)
    unknown = {**LOG, "hist_dwell": tf.zeros(shape, tf.int64)}
    known = {**LOG, "hist_dwell": tf.constant(random.integers(1, 10**6, shape))}
    model = build(schema, unknown)
    statistics = model.encoders["group_module"].statistics
    assert statistics.names[-1] == "mean_dwell"
    assert model.serving_spec.groups.statistic_names == tuple(statistics.names)
    one, other = (model(transform(model, features))["logits"] for features in (unknown, known))
    assert np.abs(one - other)[LOG["cand_mask"]].max() > 1e-3
    np.testing.assert_allclose(other, model(known)["logits"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("places", [5, 97])  # few classes of events, and more than have a table
def test_where_events_were_tells_groups_and_own_events_apart(places):
    sizes = {**SCHEMA.vocabulary_sizes, "location": places}
    field = Field("location", (HISTORY,), "location")
    schema = dataclasses.replace(SCHEMA, fields=(*SCHEMA.fields, field), vocabulary_sizes=sizes)
    shape, random = LOG["hist_item_id"].shape, np.random.default_rng(2)
    ids = [tf.constant(random.integers(1, places, shape), tf.int32) for _ in range(2)]
    here, there = ({**LOG, "hist_location": found} for found in ids)
    model = build(schema, here)
    attributes = [model.group_module.attributes, model.target_module.reader.attributes]
    assert all(found.names == ("gap", "behavior_type", "location") for found in attributes)
    gaps = tf.gather(tf.constant(gap_starts()), [0, 7, 47])
    raw = {"gap": gaps, "behavior_type": tf.constant([VIEW, 0, 1]), "location": tf.range(1, 4)}
    embedded = tf.gather(attributes[0].class_table(), attributes[0].classes(raw))
    np.testing.assert_allclose(embedded, attributes[0](raw), rtol=1e-6)
    one, other = (model(transform(model, features))["logits"] for features in (here, there))
    assert np.abs(one - other)[LOG["cand_mask"]].max() > 1e-3
    np.testing.assert_allclose(other, model(there)["logits"], rtol=1e-5, atol=1e-6)


@tf.keras.utils.register_keras_serializable("dgin_tf_tests")
class MaxPooling(tf.keras.layers.Layer):
    """A stranger's aggregation: the largest value of every column."""

    def call(self, events, mask):
        lowest = tf.fill(tf.shape(events), events.dtype.min)
        return tf.reduce_max(tf.where(mask[..., tf.newaxis], events, lowest), axis=1)


def max_pooling_model(key="item_id"):
    module = GroupModule(
        key,
        groups=5,
        statistics=GroupStatistics(StatisticsSpec(), BACKBONE.embedding_dim),
        attributes=event_attributes(SCHEMA, BACKBONE.embedding_dim),
        aggregation=MaxPooling(),
    )
    return DGIN(SCHEMA, BACKBONE, group_module=module)


@pytest.mark.parametrize("key", ["item_id", "category_id"])
def test_a_strangers_aggregation_is_passed_in(key, tmp_path):
    model = max_pooling_model(key)
    outputs = model(LOG)
    groups = transform(model, LOG)["groups"]
    attributes = model.group_module.attributes(groups.attributes)
    width = attributes.shape[-1]
    pooled = np.where(groups.event_mask[..., None], attributes, -np.inf).max(axis=2)
    described = outputs["state"]["group_module"]["groups"].numpy()[..., -width:]
    is_group = groups.mask.numpy()
    np.testing.assert_allclose(described[is_group], pooled[is_group], rtol=1e-6)
    assert not np.any(described[~is_group])
    model.save(tmp_path / "model.keras")
    loaded = tf.keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(LOG)["logits"], outputs["logits"])


def test_the_default_model_is_that_of_the_default_settings():
    tf.keras.utils.set_random_seed(3)
    expected = DGIN.from_settings(SCHEMA, BACKBONE)(LOG)["logits"]
    tf.keras.utils.set_random_seed(3)
    np.testing.assert_array_equal(DGIN(SCHEMA, BACKBONE)(LOG)["logits"], expected)


def test_a_target_module_alone_is_refused():
    with pytest.raises(ValueError, match="pass both"):
        DGIN(SCHEMA, BACKBONE, target_module=build().target_module)


def test_a_target_module_that_reads_whole_histories_leaves_them_whole():
    whole = GroupModule("category_id", groups=3, aggregation=GroupAggregation(), name="reader")
    model = DGIN(SCHEMA, BACKBONE, group_module=GroupModule(groups=5), target_module=whole)
    grouped = transform(model, LOG)
    assert grouped["hist_item_id"].shape == LOG["hist_item_id"].shape
    assert model.serving_spec.history is None
    assert model.serving_spec.groups is None


def test_a_server_reads_groups_and_the_candidates_own_events():
    spec = build(key="category_id").serving_spec
    assert spec.history == ("category_id", 0, 4)
    assert (spec.groups.key, spec.groups.groups, spec.groups.events) == ("category_id", 5, 3)
    assert build(target_module=False).serving_spec.history is None
    for settings in ({"key": "session", "target_module": False}, {"behavior_types": ("view",)}):
        spec = build(**settings).serving_spec
        assert (spec.history, spec.groups) == (None, None)


def test_events_with_running_statistics_are_described_by_these():
    model = build(target_module=False)
    names = model.group_module.statistics.names
    shape = LOG["hist_item_id"].shape
    totals = {f"hist_total_{name}": tf.fill(shape, 7) for name in names}
    prepare = model.group_module.prepare
    expected = prepare(model.past_events(LOG)).groups
    groups = prepare(model.past_events({**LOG, **totals})).groups
    for name in names:
        np.testing.assert_array_equal(groups.statistics[name], 7 * expected.mask.numpy())
    np.testing.assert_array_equal(groups.keys, expected.keys)
    assert isinstance(model.past_events(LOG), History)
