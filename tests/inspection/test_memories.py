"""Use of memory slots: shares, order, evenness."""

import numpy as np
import pytest

from dgin_tf.inspection import memories, plots
from dgin_tf.inspection.traces import Trace
from dgin_tf.models import registry
from tests.conformance.catalogue import BACKBONE, batch
from tests.prepared import make_schema

USAGE = np.array([[1.0, 5.0, 2.0], [0.0, 0.0, 0.0], [3.0, 3.0, 3.0]])
MASK = np.array([[True, True], [False, False], [True, False]])


def trace(usage=USAGE):
    return Trace({"hist_mask": MASK}, np.zeros([3, 1]), {}, {"memory": {"usage": usage}})


def test_shares_are_sorted_for_each_user_and_users_without_events_left_out():
    found = memories.slot_use(trace())
    np.testing.assert_allclose(found, [[5 / 8, 2 / 8, 1 / 8], [1 / 3, 1 / 3, 1 / 3]])


def test_equal_use_makes_all_slots_effective_and_a_single_slot_one():
    equal, single = np.full((5, 7), 1 / 7), np.eye(7)[[0] * 5]
    assert memories.summarize(equal) == pytest.approx({"largest": 1 / 7, "effective_slots": 7})
    assert memories.summarize(single) == pytest.approx({"largest": 1, "effective_slots": 1})


def test_a_model_without_memory_is_refused():
    with pytest.raises(ValueError, match="expected a model with a memory"):
        memories.slot_use(Trace({"hist_mask": MASK}, USAGE, {"interest": {"attention": USAGE}}))


def test_the_figure_has_a_bar_for_every_slot_and_model():
    figure = plots.slot_use(memories.by_model({"one": trace(), "two": trace(USAGE[:, ::-1])}))
    (axis,) = figure.axes
    heights = [bar.get_height() for bar in axis.patches]
    np.testing.assert_allclose(heights[:3], np.mean([[5 / 8, 2 / 8, 1 / 8], [1 / 3] * 3], axis=0))
    np.testing.assert_allclose(heights[3:], heights[:3])
    assert plots.to_png(figure).startswith(b"\x89PNG\r\n")


@pytest.mark.parametrize("name", ["mimn", "mimn_released"])
def test_addresses_are_measured(name):
    model = registry.make_model(name, make_schema(), BACKBONE, slots=3)
    assert memories.is_addressed(model)
    found = memories.addressing(model, batch())
    assert 0 < found["write_entropy"] <= 1
    assert 1 / 3 < found["largest_read"] <= 1
    assert 1 <= found["effective_slots"] <= 3 + 1e-6


def test_equal_writes_have_an_entropy_of_one_and_sharp_ones_of_zero():
    equal = registry.make_model("mimn", make_schema(), BACKBONE, slots=3)
    equal(batch())
    kernel = equal.encoder.memory.utilization.kernel
    kernel.assign(kernel * 0)  # P_t is uniform
    assert memories.addressing(equal, batch())["write_entropy"] == pytest.approx(1)
    assert memories.addressing(equal, batch())["effective_slots"] == pytest.approx(3)
    settings = {"slots": 3, "utilization_weight": 0.0, "sharpness": 1e4}
    sharp = registry.make_model("mimn", make_schema(), BACKBONE, **settings)
    assert memories.addressing(sharp, batch())["write_entropy"] == pytest.approx(0, abs=1e-2)


def test_models_without_slots_have_no_addresses():
    assert not memories.is_addressed(registry.make_model("din", make_schema(), BACKBONE))
    assert not memories.is_addressed(registry.make_model("rum", make_schema(), BACKBONE))
