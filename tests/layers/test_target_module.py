"""The target module: Eq. (8) for every candidate, and nothing where there is nothing."""

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.layers.event_attributes import EventAttributes
from dgin_tf.layers.multi_head_attention import head_kernel
from dgin_tf.layers.search.hard import HardSearch
from dgin_tf.layers.search.unit import SearchedInterest
from dgin_tf.layers.target_module import TargetModule
from dgin_tf.layers.time_gap import gap_buckets
from tests.layers.search.searching import Data
from tests.oracles import dgin

K = 4


def encoder(times=True, **attributes):
    attributes = EventAttributes(5, times=times, behavior_types=5, **attributes)
    unit = HardSearch(K, "category_id")
    return SearchedInterest(unit, TargetModule(attributes), times=times)


def kernels_of(attention):
    """W_Q, W_K, W_V and W_O of a target attention."""
    weights = [getattr(attention, f"{part}_kernel") for part in ("query", "key", "value", "output")]
    return [head_kernel(weight, attention.heads, "float32").numpy() for weight in weights]


def feed_forward(layer, values):
    """LN(x + FFN(x))."""
    weights = [w.numpy() for d in (layer.hidden, layer.output_layer) for w in (d.kernel, d.bias)]
    return norm(layer.norm, values + dgin.feed_forward(values, *weights))


def norm(layer, values):
    return dgin.layer_norm(values, layer.gamma.numpy(), layer.beta.numpy())


def test_it_is_equation_8_over_the_newest_events_of_the_candidates_key():
    data, layer = Data(length=(19, 5, 0), time=19, candidates=3), encoder()
    state = layer.encode(data.history)
    layer.interest(state, data.target)
    random = np.random.default_rng(1)
    for variable in layer.trainable_variables:
        variable.assign(random.normal(0, 0.5, variable.shape))
    found = layer.interest(state, data.target)["interest"].numpy()
    reader, raw, table = layer.reader, data.features, data.table.numpy()
    compared = 0
    for user, mask in enumerate(data.mask):
        for place, candidate in enumerate(data.candidates[user]):
            same = raw["hist_category_id"][user] == raw["cand_category_id"][user, place]
            places = np.flatnonzero(same & mask)[-K:]
            if not len(places):
                assert not np.any(found[user, place])
                continue
            gaps = raw["cand_timestamp"][user, place] - raw["hist_timestamp"][user, places]
            kinds = raw["hist_behavior_type"][user, places]
            events = np.concatenate(
                [
                    table[data.items[user, places]],
                    reader.attributes.gaps.table.numpy()[gap_buckets(gaps)],
                    reader.attributes.table.numpy()[kinds],
                ],
                axis=-1,
            )
            inner = reader.encoder.attention
            mixed = dgin.self_attention(events, *(kernel.numpy() for kernel in inner.kernels))
            encoded = feed_forward(
                reader.encoder.feed_forward, norm(reader.encoder.norm, events + mixed)
            )
            asked = reader.projection(table[None, candidate]).numpy()[0]
            read = dgin.target_attention(asked, encoded, *kernels_of(reader.attention))
            expected = feed_forward(reader.feed_forward, norm(reader.norm, asked + read))
            np.testing.assert_allclose(found[user, place], expected, rtol=1e-3, atol=1e-4)
            compared += 1
    assert compared >= 3


def test_the_type_of_an_event_that_was_found_matters():
    data, layer = Data(length=(19,), time=19, candidates=3), encoder()
    expected = layer.interest(layer.encode(data.history), data.target)["interest"].numpy()
    data.features["hist_behavior_type"] = 6 - data.features["hist_behavior_type"]
    found = layer.interest(layer.encode(data.history), data.target)["interest"].numpy()
    assert np.max(np.abs(found - expected)) > 1e-3


def test_gaps_need_times():
    data = Data()
    reader = TargetModule(EventAttributes(5))
    layer = SearchedInterest(HardSearch(K, "category_id"), reader)
    with pytest.raises(ValueError, match="no times are kept"):
        layer.interest(layer.encode(data.history), data.target)


def test_the_module_takes_embedded_events_with_their_mask():
    data = Data(length=(19, 5, 0), time=19, candidates=3)
    reader = TargetModule()
    layer = SearchedInterest(HardSearch(K, "category_id"), reader)
    outputs = layer(data.target, data.history)
    mask = outputs["topk_mask"]
    items = tf.gather(data.history.features["item_id"], outputs["topk_indices"], batch_dims=1)
    events = tf.where(mask[..., None], tf.gather(data.table, items), 0.0)
    found = reader(data.target.embedding, events, mask)
    np.testing.assert_allclose(found["interest"], outputs["interest"], rtol=1e-5, atol=1e-6)


def test_embedded_events_without_a_mask_or_with_attributes_to_embed_are_refused():
    target, events = tf.ones([2, 3, 6]), tf.ones([2, 3, K, 6])
    with pytest.raises(ValueError, match="need their mask"):
        TargetModule()(target, events)
    with pytest.raises(ValueError, match="embeddings alone have no attributes"):
        TargetModule(EventAttributes(5))(target, events, tf.ones([2, 3, K], tf.bool))
