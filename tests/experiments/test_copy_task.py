"""The copy task: what is drawn, what is compared, and that its parts run."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf

from experiments.mimn import copy_task
from experiments.mimn.copy_task import Task

SMALL = Task(items=5, time=7, distances=(1, 7), slots=3, dim=2, units=11, batch=13, steps=2)


def test_the_marked_event_is_the_one_to_recall():
    events, item = SMALL.draw(np.random.default_rng(3), distance=7)
    assert events.shape == (13, 7, 5 + 1)
    np.testing.assert_array_equal(events[..., :5].sum(-1), 1.0)
    np.testing.assert_array_equal(events[:, 0, -1], 1.0)
    np.testing.assert_array_equal(events[:, 1:, -1], 0.0)
    np.testing.assert_array_equal(events[:, 0, :5].argmax(-1), item)


def test_a_distance_beyond_the_trained_length_makes_histories_as_long():
    events, item = SMALL.draw(np.random.default_rng(3), distance=19)
    assert events.shape == (13, 19, 5 + 1)
    np.testing.assert_array_equal(events[:, 0, -1], 1.0)
    np.testing.assert_array_equal(events[:, 0, :5].argmax(-1), item)


def test_drawn_distances_reach_from_the_first_event_to_the_last():
    task = dataclasses.replace(SMALL, batch=997)
    events, _ = task.draw(np.random.default_rng(5))
    places = events[..., -1].argmax(-1)
    np.testing.assert_array_equal(events[..., -1].sum(-1), 1.0)
    assert set(places) == set(range(7))
    assert np.mean(places == 6) > np.mean(places == 0)


def test_no_drawn_distance_is_below_the_nearest_one():
    task = dataclasses.replace(SMALL, batch=997, nearest=5)
    events, item = task.draw(np.random.default_rng(5))
    places = events[..., -1].argmax(-1)
    assert set(places) == {0, 1, 2}
    np.testing.assert_array_equal(events[np.arange(997), places, :5].argmax(-1), item)


def test_a_nearest_distance_beyond_the_history_is_refused():
    with pytest.raises(ValueError, match="nearest must lie between 1 and the 7 events; got 8"):
        dataclasses.replace(SMALL, nearest=8)


@pytest.mark.parametrize("model", ["memory", "gru"])
def test_a_model_trains_and_is_evaluated_at_every_distance(model):
    found = copy_task.train_and_evaluate(model, SMALL, seed=1, batches=1)
    assert set(found["accuracy"]) == {"1", "7"}
    assert np.isfinite(found["loss"])
    assert found["floats"] == copy_task.state_floats(SMALL) == 3 * 2 + 3 + 11 + 2


def test_the_released_memory_keeps_what_was_ever_written_besides():
    recall = copy_task.Recall("released_memory", SMALL)
    events, _ = SMALL.draw(np.random.default_rng(7))
    assert recall(tf.constant(events)).shape == [13, 5]
    kept = recall.last_state(tf.constant(events)).shape[-1]
    assert kept == copy_task.state_floats(SMALL) + 3 * 2


def test_the_report_has_means_and_deviations_over_seeds():
    entries = [{"floats": 17, "accuracy": {"1": 1.0, "7": value}} for value in (0.2, 0.6)]
    result = {"task": dataclasses.asdict(SMALL), "seeds": [1, 2], "models": {"gru": entries}}
    text = copy_task.markdown(json.loads(json.dumps(result)))
    assert "| GRU | 17 | 1.000 ± 0.000 | 0.400 ± 0.283 |" in text
