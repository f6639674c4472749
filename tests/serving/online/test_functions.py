"""Merged calls give what single ones give, and every caller its own rows or its error."""

import threading
import time

import numpy as np
import pytest

from dgin_tf.serving.online.bundle_model import BundleModel
from dgin_tf.serving.online.functions import LocalFunctions, MergedFunctions
from dgin_tf.serving.online.ranker import Ranker

REQUESTS = [
    ([5, 16, 27], [5, 9]),
    ([5, 7], [33, 2, 19]),
    ([8, 9, 10], [4, 4, 4]),
    ([], [7]),
    ([3], [50, 60]),
    ([3, 4, 5, 6, 7], [50, 60, 61]),
]


def at_once(functions, count):
    """Runs `functions(n)` for all n in threads that start together."""
    results, barrier = [None] * count, threading.Barrier(count)

    def run(number):
        barrier.wait()
        try:
            results[number] = functions(number)
        except ValueError as error:
            results[number] = error

    threads = [threading.Thread(target=run, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.mark.parametrize(("name", "wait"), [("din", 0.0), ("din", 0.05), ("mimn", 0.05)])
def test_merged_requests_are_ranked_as_single_ones(name, wait, request):
    version = request.getfixturevalue(name).version
    sizes = []
    functions = MergedFunctions(LocalFunctions.load(version), 4, wait, on_batch=sizes.append)
    merged = Ranker(BundleModel(version, functions=functions), cached_states=0)
    single = Ranker(version, cached_states=0)
    reference = [single.rank(*request) for request in REQUESTS]
    for _ in range(3):
        results = at_once(lambda n: merged.rank(*REQUESTS[n]), len(REQUESTS))
        for actual, expected in zip(results, reference, strict=True):
            np.testing.assert_allclose(actual, expected, atol=1e-6)
    assert max(sizes) <= 4
    if wait:
        assert max(sizes) > 1


def test_calls_gather_while_a_batch_runs():
    sizes = []

    def double(signature, inputs):
        time.sleep(0.05)
        return {"y": 2 * inputs["x"]}

    functions = MergedFunctions(double, 8, on_batch=sizes.append)
    results = at_once(lambda n: functions("f", {"x": np.full((1, 2), n)})["y"], 7)
    for number, result in enumerate(results):
        np.testing.assert_array_equal(result, [[2 * number] * 2])
    assert sum(sizes) == 7
    assert max(sizes) > 1


def test_an_error_reaches_every_call_of_its_batch_and_no_other():
    def fail_at_3(signature, inputs):
        if np.any(inputs["x"] == 3):
            raise ValueError("three")
        return {"y": inputs["x"]}

    functions = MergedFunctions(fail_at_3, 8, 0.02)
    at_once(lambda n: functions("f", {"x": np.full((1, 1), n)}), 6)
    np.testing.assert_array_equal(functions("f", {"x": np.ones((1, 1))})["y"], [[1.0]])
    with pytest.raises(ValueError, match="three"):
        functions("f", {"x": np.full((1, 1), 3)})


def test_what_does_not_fit_is_not_merged():
    shapes = []

    def record(signature, inputs):
        time.sleep(0.02)
        shapes.append(inputs["state"].shape)
        return {"y": inputs["state"]}

    functions = MergedFunctions(record, 8, 0.02)
    at_once(lambda n: functions("f", {"state": np.zeros((1, 1 + n % 2))}), 6)
    assert {shape[1] for shape in shapes} == {1, 2}
    assert sum(shape[0] for shape in shapes) == 6
