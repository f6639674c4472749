"""Attention to groups: whose it is, what the groups are called, how it is spread."""

import dataclasses

import numpy as np
import pytest

from dgin_tf.inspection import groups, traces
from tests.conformance.catalogue import batch, build, schema_of

SCHEMA = schema_of("dgin")
KEY = "category_id"


@pytest.fixture(scope="module")
def trace():
    return traces.trace(build("dgin"), batch())


def test_attention_sums_to_one_over_the_groups_of_whoever_has_some(trace):
    total = groups.group_attention(trace).sum(axis=-1)
    has = trace.features["hist_mask"].any(axis=1)
    np.testing.assert_allclose(total, np.repeat(has[:, None], total.shape[1], axis=1), atol=1e-6)


def test_groups_are_called_by_their_key_and_how_many_events_they_have(trace, tmp_path):
    named = groups.group_names(trace, 0, KEY, SCHEMA, traces.Names(tmp_path))
    past = trace.features["hist_category_id"][0][trace.features["hist_mask"][0]]
    keys = trace.state["group_module"]["keys"][0][: len(named)]
    assert keys[0] == past[-1]
    count = np.sum(past == past[-1])
    assert named[0] == f"category #{past[-1]}, {count} event{'' if count == 1 else 's'}"
    strongest = groups.strongest_groups(trace, 0, 1, named, 2)
    attention = groups.group_attention(trace)[0, 1]
    assert strongest[0]["group"] == named[int(attention.argmax())]
    assert strongest[0]["attention"] >= strongest[1]["attention"]


def test_concentration_knows_equal_attention_and_all_on_one(trace):
    mask = trace.state["group_module"]["mask"]
    shape = trace.outputs["group_module"]["attention"].shape

    def concentration(attention):
        outputs = {"group_module": {"attention": attention}}
        return groups.concentration(dataclasses.replace(trace, outputs=outputs), KEY)

    equal = mask / np.maximum(mask.sum(axis=1, keepdims=True), 1)
    found = concentration(np.broadcast_to(equal[:, None, None], shape))
    assert found["own"] == pytest.approx(found["chance"])
    assert 0 < found["own"] < 1
    one = np.zeros(shape)
    one[mask.any(axis=1), ..., 0] = 1.0
    found = concentration(one)
    assert (found["strongest"], found["groups"]) == (1.0, pytest.approx(1.0))


def test_sessions_have_no_group_of_the_candidates_own(tmp_path):
    trace = traces.trace(build("dgin-session"), batch())
    assert np.isnan(groups.concentration(trace, "session")["own"])
    named = groups.group_names(trace, 0, "session", SCHEMA, traces.Names(tmp_path))
    assert named[0].startswith("session ")


def test_a_model_without_groups_is_refused():
    with pytest.raises(ValueError, match="attends to groups, a dgin"):
        groups.group_attention(traces.trace(build("din"), batch()))
