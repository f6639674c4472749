"""Training batches are fair samples of all lengths of history, and models read their parts as one batch."""

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.inputs.parts import merge_lengths, plan_parts, plan_streams, spread
from dgin_tf.inputs.pipeline import BatchOptions, PreparedData
from dgin_tf.layers.normalization import MovingMoments
from dgin_tf.models.din import DIN
from dgin_tf.ops.parts import join_outputs, join_rows, parts_of, split_rows
from tests.prepared import write_prepared

OPTIONS = BatchOptions(batch_rows=24, max_history=40)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("prepared")
    write_prepared(data_dir, users=97, buckets=(12, 24, 47))
    return PreparedData(data_dir)


def lengths_of(features):
    """Events in the history of every real row."""
    return np.concatenate(
        [
            part["hist_mask"].numpy().sum(1)[part["cand_mask"].numpy().any(1)]
            for part in parts_of(features)
        ]
    )


def test_moments_of_training_batches_are_those_of_all_rows(data):
    moments, everything = MovingMoments(), []
    for epoch in range(3):
        for batch in data.training(OPTIONS, 1, epoch):
            lengths = lengths_of(batch)
            everything.append(lengths)
            moments(tf.constant(lengths[:, None], tf.float32), training=True)
    everything = np.concatenate(everything)
    means = [lengths.mean() for lengths in np.array_split(everything, 12)]
    assert moments.mean.numpy() == pytest.approx(everything.mean(), rel=0.1)
    assert moments.variance.numpy() == pytest.approx(everything.var(), rel=0.2)
    # Batches of one length each differ from the mean by about a deviation.
    assert np.std(means) < 0.4 * everything.std()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_batches_vary_no_more_than_random_ones(data, count):
    """However few lengths rows are padded to."""
    options = BatchOptions(batch_rows=24, max_history=40, lengths=count)
    batches = [
        lengths_of(batch) for epoch in range(3) for batch in data.training(options, 1, epoch)
    ]
    full = [lengths for lengths in batches if len(lengths) >= 15]
    assert len(full) > 10
    random = np.concatenate(batches).std() / np.sqrt(24)
    assert np.std([lengths.mean() for lengths in full]) < random


def test_every_batch_has_rows_of_each_length_in_proportion(data):
    batches = [
        [int(part["cand_mask"].numpy().any(1).sum()) for part in parts_of(batch)]
        for batch in data.training(OPTIONS, 1, 0)
    ]
    rows = np.asarray(batches)
    shares = rows.sum(0) / rows.sum()
    assert len(shares) == 3
    # The last rows of a length may be fewer than its share.
    full = rows[:-1]
    assert len(full) > 2
    assert np.abs(full - shares * full.sum(1, keepdims=True)).max() <= 2


def test_a_plan_holds_all_rows_in_the_fewest_batches():
    streams = [[40, 7], [90], [130, 3, 3]]
    steps, sizes = plan_parts(streams, [25, 50, 50], 32)
    assert sum(sizes) <= 32
    for size, rows in zip(sizes, streams, strict=True):
        assert sum(-(-count // size) for count in rows) <= steps
    fewer = [min(s for s in range(1, 200) if sum(-(-c // s) for c in rows) <= steps - 1)
             for rows in streams]  # fmt: skip
    assert sum(fewer) > 32


def test_replicas_get_equally_many_rows_of_every_length():
    _, sizes = plan_parts([[40, 7], [90], [30]], [25, 50, 50], 30, multiple=3)
    assert [sizes[0] % 3, (sizes[1] + sizes[2]) % 3] == [0, 0]
    with pytest.raises(ValueError, match="at least 6 rows, 3 for each of 2 lengths; got 5"):
        plan_parts([[40, 7], [90]], [25, 50], 5, multiple=3)


def test_every_bucket_is_a_stream_unless_it_is_rare_or_cut():
    rows = {25: 130, 50: 150, 100: 170, 200: 130, 400: 70, 800: 15, 1600: 1}
    assert plan_streams(rows, 200, 64) == [(25,), (50,), (100,), (200,), (400, 800, 1600)]
    # What is cut below its bucket's end is apart from what is cut everywhere.
    assert plan_streams(rows, 60, 64) == [(25,), (50,), (100,), (200, 400, 800, 1600)]
    assert plan_streams({25: 1, 50: 2, 100: 80}, 100, 64) == [(25, 50), (100,)]
    assert plan_streams(rows, 200, 1) == [(25, 50, 100, 200, 400, 800, 1600)]


def test_the_shortest_lengths_are_padded_where_there_are_too_many():
    assert merge_lengths([25, 200, 50, 100], 3) == {25: 50, 50: 50, 100: 100, 200: 200}
    assert merge_lengths([25, 50], 3) == {25: 25, 50: 50}
    assert merge_lengths([25, 50, 100], 1) == {25: 100, 50: 100, 100: 100}


def test_things_are_spread_evenly():
    np.testing.assert_array_equal(spread(7, 3), [2, 2, 3])
    np.testing.assert_array_equal(spread(0, 2), [0, 0])


def test_rows_are_split_as_they_were_joined(data):
    batch = next(iter(data.training(OPTIONS, 1, 0)))
    rows = join_rows(batch)
    assert not any(name.startswith("hist_") for name in rows)
    split = split_rows(rows, batch)
    for part, back in zip(parts_of(batch), split, strict=True):
        for name, value in back.items():
            np.testing.assert_array_equal(value, part[name])
    assert join_rows(rows) is rows


def test_outputs_of_different_widths_stay_apart():
    outputs = [{"a": tf.ones([2, 3]), "b": {"c": tf.ones([2, 5])}}, {"a": tf.ones([1, 3]), "b": {"c": tf.ones([1, 7])}}]  # fmt: skip
    joined = join_outputs(outputs)
    assert joined["a"].shape == (3, 3)
    assert [part.shape[1] for part in joined["b"]["c"]] == [5, 7]


def test_a_model_scores_parts_as_it_scores_their_rows(data):
    model = DIN(data.schema)
    batch = next(iter(data.training(OPTIONS, 1, 0)))
    together = model(batch)["logits"]
    apart = tf.concat([model(part)["logits"] for part in parts_of(batch)], axis=0)
    np.testing.assert_allclose(together, apart, rtol=1e-5, atol=1e-6)
    assert len(parts_of(batch)) == 3


def test_a_step_on_parts_is_the_step_on_their_padded_rows(data):
    """Losses and gradients of a batch in parts and in one piece agree where no unit takes moments."""
    options = [BatchOptions(24, 40, lengths=count) for count in (3, 1)]
    batch = next(iter(data.training(options[0], 1, 0)))
    padded = {
        name: tf.concat(
            [
                tf.pad(part[name], [[0, 0], [0, 40 - part[name].shape[1]]])
                if name.startswith("hist_")
                else part[name]
                for part in parts_of(batch)
            ],
            axis=0,
        )
        for name in parts_of(batch)[0]
    }
    model = DIN(data.schema, activation="prelu")
    model.build()
    gradients = []
    for features in (batch, padded):
        _, _, values = model._losses_and_gradients(features)
        gradients.append([tf.convert_to_tensor(value) for value in values])
    for one, other in zip(*gradients, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
