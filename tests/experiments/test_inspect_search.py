"""The command that compares search units, on two small runs."""

import json

import pytest

from dgin_tf.inputs.pipeline import PreparedData
from experiments.analysis import searches
from experiments.running import defaults, runs
from tests.prepared import write_prepared


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A data set and one run of each model."""
    folder = tmp_path_factory.mktemp("search")
    write_prepared(folder / "data", users=31)
    for name in ("sim_hard", "eta", "din_long"):
        config = defaults.get_config(name)
        config.model.short_events = 3
        config.loop.epochs = 1
        runs.train_seeds(config, str(folder / "data"), folder / name, [1])
    return folder


def test_units_are_compared_with_each_other_and_with_attention(trained):
    found = searches.compare_units(
        {"hard": str(trained / "sim_hard"), "eta": str(trained / "eta")},
        str(trained / "din_long"),
        PreparedData(trained / "data"),
        split="test",
        batches=2,
        k=4,
    )
    # Fifty by Hamming distance are all of these histories, so that nothing escapes.
    assert found["recall"]["eta"]["recall"] == 1.0
    assert found["overlap"]["eta"]["hard"] == 1.0
    assert 0.0 < found["recall"]["hard"]["recall"] < 1.0
    json.dumps(found)


def test_a_reference_that_does_not_attend_to_everything_is_refused(trained):
    with pytest.raises(ValueError, match="expected attention over all"):
        searches.compare_units(
            {"eta": str(trained / "eta")},
            str(trained / "sim_hard"),
            PreparedData(trained / "data"),
            split="test",
            batches=1,
            k=4,
        )
