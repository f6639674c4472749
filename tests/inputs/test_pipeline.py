"""Batches: every cut is used once, sees only its past, and comes back the same for the same seed."""

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.inputs.negatives import HistoryNegatives, popularity_sampler, uniform_sampler
from dgin_tf.inputs.pipeline import BatchOptions, PreparedData
from dgin_tf.ops.parts import parts_of
from dgin_tf.records import decode_record, read_records
from tests.prepared import CATEGORIES, ITEMS, category_of, make_schema, write_prepared

CUTS, NEGATIVES = 3, 2
OPTIONS = BatchOptions(batch_rows=7, max_history=23, history_negatives="uniform")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("prepared")
    write_prepared(data_dir, users=29, cuts=CUTS, negatives=NEGATIVES)
    return PreparedData(data_dir)


def parts_in(batches):
    """The parts of all batches, one after the other."""
    return [part for batch in batches for part in parts_of(batch)]


def rows_of(batches):
    """Every real row as (candidates, history), in the order of the batches."""
    for batch in parts_in(batches):
        batch = {name: value.numpy() for name, value in batch.items()}
        for n in np.flatnonzero(batch["cand_mask"].any(axis=1)):
            yield (
                tuple(batch["cand_item_id"][n][batch["cand_mask"][n]]),
                tuple(batch["hist_item_id"][n][batch["hist_mask"][n]]),
            )


def expected_rows(data, split, max_history):
    """The same by decoding each record and cutting it with Python slices."""
    for shard in data.shards(split):
        for payload in read_records(f"{data.data_dir}/{shard.path}"):
            record = decode_record(data.schema, payload)
            for position in np.unique(record["cand_position"]):
                at = record["cand_position"] == position
                history = record["hist_item_id"][:position][-max_history:]
                yield tuple(record["cand_item_id"][at]), tuple(history)


def test_evaluation_gives_every_cut_once_with_exactly_its_past(data):
    found = list(rows_of(data.evaluation("test", OPTIONS)))
    assert sorted(found) == sorted(expected_rows(data, "test", OPTIONS.max_history))


def test_an_epoch_of_training_gives_every_cut_once_in_another_order(data):
    found = list(rows_of(data.training(OPTIONS, seed=1, epoch=0)))
    expected = list(expected_rows(data, "train", OPTIONS.max_history))
    assert sorted(found) == sorted(expected)
    assert found != expected


def test_the_same_seed_and_epoch_give_the_same_bytes(data):
    first, again = (parts_in(data.training(OPTIONS, seed=5, epoch=2)) for _ in range(2))
    for batch, repeated in zip(first, again, strict=True):
        for name, values in batch.items():
            np.testing.assert_array_equal(values, repeated[name])


@pytest.mark.parametrize(("seed", "epoch"), [(5, 3), (6, 2)])
def test_another_seed_or_epoch_gives_another_order(data, seed, epoch):
    reference = list(rows_of(data.training(OPTIONS, seed=5, epoch=2)))
    assert list(rows_of(data.training(OPTIONS, seed=seed, epoch=epoch))) != reference


def test_the_number_of_steps_is_known_beforehand(data):
    batches = data.training(OPTIONS, seed=1, epoch=0)
    assert int(batches.cardinality()) == data.steps("train", OPTIONS) == len(list(batches))


def test_shapes_are_static_and_padding_is_at_the_end(data):
    batches = data.training(OPTIONS, seed=1, epoch=0)
    specs = [part["hist_item_id"].shape for part in parts_of(batches.element_spec)]
    assert [time for _, time in specs] == [16, OPTIONS.max_history]
    assert sum(rows for rows, _ in specs) <= OPTIONS.batch_rows
    for batch in parts_in(batches):
        assert batch["hist_item_id"].shape in specs
        assert batch["cand_item_id"].shape[1] == 1 + NEGATIVES
        mask = batch["hist_mask"].numpy()
        assert not np.any(mask[:, 1:] & ~mask[:, :-1])
        np.testing.assert_array_equal(batch["hist_item_id"].numpy()[~mask], 0)
        np.testing.assert_array_equal(batch["label"].numpy()[~batch["cand_mask"].numpy()], 0)


def test_histories_are_oldest_first_and_before_the_candidate(data):
    for batch in data.evaluation("test", OPTIONS):
        times = np.where(batch["hist_mask"], batch["hist_timestamp"], np.iinfo(np.int64).max)
        assert np.all(np.diff(times, axis=1) >= 0)
        latest = np.where(batch["hist_mask"], batch["hist_timestamp"], 0).max(axis=1)
        candidates = np.where(batch["cand_mask"], batch["cand_timestamp"], np.iinfo(np.int64).max)
        assert np.all(latest < candidates.min(axis=1))


def test_sampled_non_clicks_are_real_items_other_than_the_click(data):
    for batch in parts_in(data.training(OPTIONS, seed=1, epoch=0)):
        negative = batch["hist_negative_item_id"].numpy()
        assert np.all(negative != batch["hist_item_id"].numpy())
        assert negative.min() >= 2
        assert negative.max() < ITEMS
        np.testing.assert_array_equal(batch["hist_negative_category_id"], category_of(negative))


def test_even_two_items_never_give_the_click_as_its_own_non_click():
    schema = make_schema()
    two = {**schema.vocabulary_sizes, "item_id": 4}
    schema = type(schema)(schema.fields, two, schema.max_history)
    negatives = HistoryNegatives(schema, {"category_id": np.arange(4)}, uniform_sampler(4))
    clicked = tf.constant(np.random.default_rng(0).integers(2, 4, (53, 31)), tf.int32)
    sampled = negatives({"hist_item_id": clicked}, tf.constant([1, 2], tf.int64))
    np.testing.assert_array_equal(sampled["hist_negative_item_id"], 5 - clicked)


def test_popular_items_are_sampled_in_proportion_to_their_events():
    count = np.array([9, 9, 1, 0, 3])
    drawn = popularity_sampler(count)(tf.constant([4001]), tf.constant([1, 2], tf.int64)).numpy()
    assert set(drawn) == {2, 4}
    assert 0.2 < np.mean(drawn == 2) < 0.3


def test_popularity_without_any_event_is_refused():
    with pytest.raises(ValueError, match="counts none"):
        popularity_sampler(np.zeros(5))


def test_a_catalogue_without_the_category_is_refused():
    with pytest.raises(ValueError, match="category_id"):
        HistoryNegatives(make_schema(), {}, uniform_sampler(CATEGORIES))


def test_a_split_without_examples_is_refused(data):
    with pytest.raises(ValueError, match="no 'holdout' examples"):
        data.shards("holdout")


@pytest.mark.parametrize(
    "options", [{"batch_rows": 0}, {"max_history": 0}, {"history_negatives": "all"}]
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match="must be"):
        BatchOptions(**options)


def test_a_truncated_file_stops_the_reader(tmp_path):
    write_prepared(tmp_path, users=11)
    data = PreparedData(tmp_path)
    path = tmp_path / data.shards("test")[0].path
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(tf.errors.DataLossError):
        list(data.evaluation("test", OPTIONS))


def test_functions_are_traced_once_for_each_part_whatever_the_epoch(data, monkeypatch):
    functions, function = [], tf.function

    def noted_function(*args, **kwargs):
        functions.append(function(*args, **kwargs))
        return functions[-1]

    monkeypatch.setattr(tf, "function", noted_function)
    data = PreparedData(data.data_dir)
    for epoch in range(2):
        next(iter(data.training(OPTIONS, seed=3, epoch=epoch)))
    lengths = {min(shard.bucket, 23) for shard in data.shards("train")}
    assert len(lengths) == 2
    # What opens files and what cuts rows.
    counts = [f.experimental_get_tracing_count() for f in functions]
    assert counts == [1] * 2 * len(lengths)
