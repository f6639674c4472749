"""Tests of states that a version stores in fewer bytes."""

import dataclasses
import json

import numpy as np
import pytest

from dgin_tf.inputs.pipeline import BatchOptions
from dgin_tf.serving.center.progress import Progress
from dgin_tf.serving.center.user_states import UserState, UserStates
from dgin_tf.serving.export.bundle import Release, export_bundle
from dgin_tf.serving.online.bundle_model import BundleModel
from dgin_tf.state_types import STATE_TYPES
from dgin_tf.stores.state_store import InMemoryStore
from experiments.running.state_rounding import measure_rounding
from tests.serving.exported import MAX_HISTORY


@pytest.fixture(scope="module")
def versions(mimn, tmp_path_factory):
    """The same MIMN by the type of its states."""
    base = tmp_path_factory.mktemp("types")
    releases = {t: Release("mimn", str(mimn.data_dir), MAX_HISTORY, {}, t) for t in STATE_TYPES}
    return {t: export_bundle(mimn.model, release, base / t) for t, release in releases.items()}


def test_stored_states_score_alike_in_every_type(mimn, versions):
    tolerances = dict(zip(STATE_TYPES, (1e-6, 2e-2, 5e-2), strict=True))
    for state_type, version in versions.items():
        model = BundleModel(version)
        states = UserStates(InMemoryStore(), model.metadata)
        rows = model.run("encode_user", {n: mimn.batch[n] for n in model.inputs["encode_user"]})
        for user in range(9):
            arrays = {name: array[user] for name, array in rows.items()}
            states.swap({user: UserState(arrays, Progress())})
        state = [s.arrays for s in states.read(range(9))]
        stacked = {name: np.stack([s[name] for s in state]) for name in state[0]}
        inputs = {n: stacked.get(n, mimn.batch.get(n)) for n in model.inputs["score_candidates"]}
        scores = model.run("score_candidates", {n: v[:9] for n, v in inputs.items()})
        expected = mimn.expected[:9]
        difference = np.abs(scores["probabilities"] - expected).max()
        assert difference <= tolerances[state_type], state_type


def test_a_version_says_the_type_of_its_states_and_their_bytes(versions):
    said = [json.loads((v / "assets.extra" / "model.json").read_text()) for v in versions.values()]
    assert [metadata["state_type"] for metadata in said] == list(STATE_TYPES)
    full, half, quarter = (metadata["state_bytes"]["fixed"] for metadata in said)
    assert half < 0.55 * full
    assert quarter < half


def test_the_cost_of_a_type_is_measured_on_a_split(mimn, data):
    options = BatchOptions(16, MAX_HISTORY)
    exact, rounded = (
        measure_rounding(mimn.model, data, options, t, "test") for t in ("float32", "int8")
    )
    assert exact.auc == exact.rounded_auc
    assert exact.largest_difference < 1e-6
    assert 0 < rounded.largest_difference < 0.05
    assert dataclasses.asdict(rounded)["examples"] > 0
