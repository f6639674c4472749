"""The group module: what describes a group, and what a candidate makes of groups."""

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.group_spec import SESSION, StatisticsSpec
from dgin_tf.layers import groups as groups_module
from dgin_tf.layers.event_attributes import EventAttributes, events_of_types
from dgin_tf.layers.events import History, embed_history
from dgin_tf.layers.group_statistics import GroupStatistics
from dgin_tf.layers.groups import GroupAggregation, GroupModule
from dgin_tf.layers.multi_head_attention import MultiHeadAttention
from dgin_tf.layers.time_gap import gap_buckets
from tests.layers.search.searching import Data
from tests.oracles import dgin

TYPES, WIDTH, GROUPS, EVENTS = ("view", "cart", "buy"), 5, 4, 3


class Grouped(Data):
    """A log of few items, whose embeddings are a part of their own and one of their category."""

    def __init__(self, **sizes):
        super().__init__(length=(19, 7, 1, 0), time=19, items=8, **sizes)
        self.tables = {"item_id": self.table, "category_id": tf.Variable(2 * self.table)}


def module(key="item_id", statistical=True, aggregated=True, groups=GROUPS, events=EVENTS):
    types = tuple(zip(TYPES, (2, 3, 4), strict=True))
    statistics = StatisticsSpec(types, () if key == "item_id" else ("item_id",))
    return GroupModule(
        key,
        groups,
        events,
        GroupStatistics(statistics, WIDTH) if statistical else None,
        EventAttributes(WIDTH, behavior_types=5) if aggregated else None,
        GroupAggregation() if aggregated else None,
        MultiHeadAttention(3),
    )


def encode(layer, history):
    return layer.encode(layer.prepare(history))


def reordered(data, order):
    """The same events of the first user in another order, each at the time of its place."""
    features = {n: v.numpy() for n, v in data.history.features.items()}
    for name in ("item_id", "category_id", "behavior_type", "timestamp"):
        features[name][0] = features[name][0, order]
    features = {n: tf.constant(v) for n, v in features.items()}
    return data.history._replace(features=features)


def kernels_of(attention, heads):
    """Weights [dim, heads, units] of a layer's query, key, value and output."""
    parts = ("query", "key", "value", "output")
    kernels = [getattr(attention, f"{part}_kernel").numpy() for part in parts]
    return [kernel.reshape(len(kernel), heads, -1) for kernel in kernels]


@pytest.mark.parametrize("key", ["item_id", "category_id"])
def test_a_group_is_its_identity_its_statistics_and_its_aggregation(key):
    data, layer = Grouped(), module(key)
    state, raw = encode(layer, data.history), data.features
    table, dim = data.table.numpy(), data.table.shape[-1]
    attributes = layer.attributes
    kernels = [kernel.numpy() for kernel in layer.aggregation.attention.kernels]
    for user, mask in enumerate(data.mask):
        found = dgin.group_events(raw[f"hist_{key}"][user], mask, GROUPS, EVENTS)
        assert np.sum(state["mask"][user]) == len(found)
        assert not np.any(state["groups"][user, len(found) :])
        now = raw["hist_timestamp"][user][mask].max(initial=0)
        for n, (_, everything, newest) in enumerate(found):
            group = state["groups"][user, n].numpy()
            item, category, kind = (
                raw[f"hist_{name}"][user] for name in ("item_id", "category_id", "behavior_type")
            )
            shared = [table[item[newest[0]]]] if key == "item_id" else []
            identity = np.concatenate([*shared, 2 * table[category[newest[0]]]])
            np.testing.assert_allclose(group[: len(identity)], identity, rtol=1e-6)
            kinds = np.bincount(kind[everything], minlength=5)[2:]
            counts = {
                "count": len(everything),
                "types": np.sum(kinds > 0),
                **{f"count_{name}": count for name, count in zip(TYPES, kinds, strict=True)},
            }
            if key == "category_id":
                counts["distinct_item_id"] = len(set(item[everything]))
            given = {name: tf.constant([[value]], tf.int32) for name, value in counts.items()}
            statistics = layer.statistics(given, tf.constant([[True]])).numpy()[0, 0]
            end = len(identity) + len(statistics)
            np.testing.assert_allclose(group[len(identity) : end], statistics, rtol=1e-6)
            ages = gap_buckets(tf.constant(now - raw["hist_timestamp"][user, newest])).numpy()
            parts = [attributes.gaps.table.numpy()[ages], attributes.table.numpy()[kind[newest]]]
            if key == "category_id":
                parts = [table[item[newest]], *parts]
            events = np.concatenate(parts, axis=-1)
            aggregated = dgin.self_attention(events, *kernels).mean(axis=0)
            np.testing.assert_allclose(group[end:], aggregated, rtol=1e-4, atol=1e-6)
            assert dim == 6


def descriptions(layer, data):
    """What an encoding gives of groups, and its gradients."""
    with tf.GradientTape() as tape:
        groups = encode(layer, data.history)["groups"]
        loss = tf.reduce_sum(groups * groups)
    sources = layer.trainable_variables
    return [groups, *map(tf.convert_to_tensor, tape.gradient(loss, sources))]


def test_events_of_many_classes_of_attributes_are_described_one_by_one(monkeypatch):
    data, layer = Grouped(), module()
    found = []
    for most in (groups_module._MOST_CLASSES, 0):
        monkeypatch.setattr(groups_module, "_MOST_CLASSES", most)
        found.append(descriptions(layer, data))
    assert layer.attributes.class_count == 48 * 5
    for by_class, by_event in zip(*found, strict=True):
        assert np.any(by_event)
        np.testing.assert_allclose(by_class, by_event, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("key", ["item_id", "category_id"])
def test_the_fast_route_has_the_values_and_gradients_of_the_equations(key):
    data, layer = Grouped(), module(key)
    fast = descriptions(layer, data)
    layer.aggregation.fast = False
    for found, expected in zip(fast, descriptions(layer, data), strict=True):
        assert np.any(expected)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_only_the_order_within_a_group_matters_when_ages_are_left_out():
    data, layer = Grouped(), module(aggregated=False, groups=50)
    encode(layer, data.history)
    items = data.features["hist_item_id"][0]
    order = np.argsort(items, kind="stable")
    found, expected = (
        layer.interest(encode(layer, history), data.target)["interest"]
        for history in (reordered(data, order), data.history)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_with_one_group_the_candidate_changes_nothing():
    data, layer = Grouped(candidates=3), module(groups=1)
    interest = layer(data.target, data.history)["interest"].numpy()
    np.testing.assert_allclose(interest, interest[:, :1].repeat(3, axis=1), rtol=1e-5, atol=1e-6)
    assert np.any(interest[0])
    assert not np.any(interest[-1])  # of the empty history


def test_attention_to_groups_is_equation_7():
    data, layer = Grouped(), module()
    state = encode(layer, data.history)
    found = layer.interest(state, data.target)["interest"].numpy()
    query = data.target.embedding.numpy()
    kernels = kernels_of(layer.attention, 3)
    for user, mask in enumerate(state["mask"].numpy()):
        groups = state["groups"][user].numpy()[mask]
        for place, candidate in enumerate(query[user]):
            expected = dgin.target_attention(candidate, groups, *kernels)
            np.testing.assert_allclose(found[user, place], expected, rtol=1e-4, atol=1e-5)


def test_groups_by_session_are_described_without_an_identity():
    data, layer = Grouped(), module(SESSION)
    state = encode(layer, data.history)
    times = data.features["hist_timestamp"][0]
    sessions = dgin.session_keys(times, data.mask[0], 1800)
    assert np.sum(state["mask"][0]) == min(GROUPS, len(set(sessions)))
    assert state["keys"][0, 0] == sessions[-1]


def test_events_of_other_types_leave_no_trace():
    data, layer = Grouped(), module(groups=50)
    encode(layer, data.history)
    other = Grouped()
    is_view = other.features["hist_behavior_type"] == 2
    other.features["hist_item_id"] = np.where(is_view, other.features["hist_item_id"], 7)
    states = [encode(layer, events_of_types(d.history, [2])) for d in (data, other)]
    for name in states[0]:
        np.testing.assert_array_equal(states[0][name], states[1][name])
    counts = encode(layer, data.history)["mask"]
    assert np.sum(states[0]["mask"]) < np.sum(counts)


def test_the_module_takes_embedded_events_and_their_keys_alone():
    data, layer = Grouped(), GroupModule(groups=GROUPS)
    events = embed_history(data.history, tf.float32)
    history = History(events.events, events.mask, {"item_id": events.features["item_id"]})
    found = layer(data.target.embedding, history)
    expected = layer(data.target, data.history)
    np.testing.assert_allclose(found["interest"], expected["interest"], rtol=1e-5, atol=1e-6)
    with tf.GradientTape() as tape:
        tape.watch(history.events)
        loss = tf.reduce_sum(layer(data.target.embedding, history)["interest"] ** 2)
    assert np.any(tape.gradient(loss, history.events))


def test_embedded_events_of_a_group_are_aggregated_where_the_key_is_no_item():
    data = Grouped()
    layer = GroupModule("category_id", GROUPS, EVENTS, aggregation=GroupAggregation())
    events = embed_history(data.history, tf.float32)
    history = History(events.events, events.mask, {"category_id": events.features["category_id"]})
    groups = encode(layer, history)["groups"].numpy()
    kernels = [kernel.numpy() for kernel in layer.aggregation.attention.kernels]
    for user, mask in enumerate(data.mask):
        keys = data.features["hist_category_id"][user]
        for n, (_, _, newest) in enumerate(dgin.group_events(keys, mask, GROUPS, EVENTS)):
            own = events.events[user].numpy()[newest]
            expected = dgin.self_attention(own, *kernels).mean(axis=0)
            np.testing.assert_allclose(groups[user, n], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"key": "shop_id"}, "by 'shop_id' needs the feature 'shop_id'"),
        ({"key": SESSION, "statistical": False, "aggregated": False}, "share no field"),
    ],
)
def test_groups_that_cannot_be_made_or_described_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        encode(module(**settings), Grouped().history)


def test_ids_without_tables_are_refused():
    history = Grouped().history._replace(tables={})
    with pytest.raises(ValueError, match="need tables"):
        encode(module(), history)


def test_an_aggregation_of_nothing_is_refused():
    layer = GroupModule(aggregation=GroupAggregation())
    with pytest.raises(ValueError, match="differ in nothing"):
        encode(layer, Grouped().history)


def test_attributes_without_an_aggregation_are_refused():
    with pytest.raises(ValueError, match="need an aggregation"):
        GroupModule(attributes=EventAttributes())


def test_attributes_of_nothing_are_refused():
    with pytest.raises(ValueError, match="neither times nor behavior types"):
        EventAttributes(times=False)
