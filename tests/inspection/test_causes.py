"""Attention on true causes: the share, and the causes of a synthetic log found again in batches."""

import numpy as np
import pytest

from data_prep import synthetic
from data_prep.engines.local import LocalEngine
from data_prep.pipeline import Preparation, prepare, work_folder
from data_prep.protocol import Protocol
from data_prep.readers import READERS
from dgin_tf.inputs.pipeline import BatchOptions, PreparedData
from dgin_tf.inspection.causes import CauseFinder, cause_share, chance_share

MASK = np.array([[True, True, True, False], [True, False, False, False]])
CAUSES = np.zeros((2, 3, 4), bool)
CAUSES[0, 0, [0, 2]] = CAUSES[0, 1, 3] = CAUSES[1, 2, 0] = True


def test_the_share_is_the_attention_on_causes_over_all_of_it():
    attention = np.zeros((2, 3, 4))
    attention[0, 0] = [0.1, 0.5, 0.2, 9.0]  # the last event is padding
    attention[1, 2, 0] = -0.4
    share = cause_share(attention, MASK, CAUSES)
    assert share[0, 0] == pytest.approx(0.3 / 0.8)
    assert share[1, 2] == 1.0


def test_rows_without_causes_or_attention_have_no_share():
    share = cause_share(np.ones(CAUSES.shape), MASK, CAUSES)
    assert np.isnan(share[0, 1])  # its only cause is padding
    assert np.isnan(share[1, 0])
    assert np.isnan(cause_share(np.zeros(CAUSES.shape), MASK, CAUSES)).all()


def test_chance_is_the_share_of_events_that_are_causes():
    assert chance_share(MASK, CAUSES)[0, 0] == pytest.approx(2 / 3)


def test_arrays_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="expected attention and causes"):
        cause_share(np.ones((2, 3, 5)), MASK, CAUSES)


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """A small synthetic log, its truth, and the data set that was prepared from it."""
    folder = tmp_path_factory.mktemp("causes")
    log = synthetic.SyntheticLog(
        synthetic.Population(users=83, events=83 * 41, longest=97, spread=0.5),
        synthetic.Catalogue(items=307, categories=23),
    )
    truth = synthetic.write_log(log, folder / "log.csv", seed=3)
    reader = READERS["taobao"]([str(folder / "log.csv")], {})
    protocol = Protocol(targets_per_user=2)
    engine = LocalEngine(work_folder(folder / "data"), progress=False)
    prepare(Preparation(reader, protocol), str(folder / "data"), engine)
    return truth, PreparedData(folder / "data")


@pytest.mark.parametrize("max_history", [97, 13])
def test_causes_in_a_batch_are_events_of_the_candidates_category(log, max_history):
    truth, data = log
    finder = CauseFinder(data.data_dir, "train", truth)
    found = 0
    for batch in data.evaluation("train", BatchOptions(31, max_history)):
        batch = {name: value.numpy() for name, value in batch.items()}
        marked = finder.masks(batch)
        same = batch["hist_category_id"][:, None] == batch["cand_category_id"][:, :, None]
        known = batch["cand_category_id"][:, :, None] > 1
        assert (same | ~known)[marked].all()
        assert not marked[~np.broadcast_to(batch["hist_mask"][:, None], marked.shape)].any()
        assert not marked[batch["label"] == 0].any()
        found += marked.sum()
    assert found > 100
