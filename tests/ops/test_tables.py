"""Rows of large tables are read alone and have sparse gradients, those of small ones dense gradients."""

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.ops.compiling import leaving_xla
from dgin_tf.ops.fast.sums import sum_by_row, sum_slices, sum_weighted_slices
from dgin_tf.ops.tables import read_few, read_rows

ROWS, DIM = 53, 3
VALUES = np.random.default_rng(0).normal(size=(ROWS, DIM)).astype(np.float32)
IDS = np.array([[2, 7, 2], [0, 52, 7]])


def make_table():
    return tf.Variable(VALUES)


def rows_and_gradient(table, ids):
    with tf.GradientTape() as tape:
        rows = read_rows(table, ids)
        loss = tf.reduce_sum(rows**2)
    return rows, tape.gradient(loss, table)


def test_rows_and_their_gradient_are_those_of_gather():
    rows, gradient = rows_and_gradient(make_table(), IDS)
    np.testing.assert_array_equal(rows, VALUES[IDS])
    assert isinstance(gradient, tf.IndexedSlices)
    np.testing.assert_array_equal(gradient.indices, IDS.ravel())
    np.testing.assert_array_equal(gradient.values, 2 * VALUES[IDS].reshape(-1, DIM))


def test_replicas_read_the_same_rows_with_sparse_gradients(mirrored, two_replicas):
    with mirrored.scope():
        table = make_table()

    def step(ids):
        rows, gradient = rows_and_gradient(table, ids)
        assert isinstance(gradient, tf.IndexedSlices)
        return rows, gradient.indices, gradient.values

    rows, indices, values = map(mirrored.experimental_local_results, two_replicas(step, IDS))
    for n in range(2):
        np.testing.assert_array_equal(rows[n][0], VALUES[IDS[n]])
        np.testing.assert_array_equal(indices[n], IDS[n])
        np.testing.assert_array_equal(values[n], 2 * VALUES[IDS[n]])


def operations(function):
    return {operation.type for operation in function.get_concrete_function().graph.get_operations()}


def test_a_replica_reads_no_more_than_the_rows(mirrored):
    with mirrored.scope():
        table = make_table()

    def replicas(read):
        return tf.function(
            lambda: mirrored.run(lambda: read(table, tf.constant(IDS))), autograph=False
        )

    assert "ReadVariableOp" in operations(replicas(tf.gather))  # or this would not be needed
    assert "ReadVariableOp" not in operations(replicas(read_rows))


def test_outside_replicas_a_mirrored_table_is_read_as_any_other(mirrored):
    with mirrored.scope():
        table = make_table()
        np.testing.assert_array_equal(read_rows(table, IDS), VALUES[IDS])


@pytest.mark.parametrize("in_scope", [False, True])
def test_a_mirrored_table_can_be_exported(mirrored, tmp_path, in_scope):
    with mirrored.scope():
        module = tf.Module()
        module.table = make_table()

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32)], autograph=False)
    def rows(ids):
        return {"rows": read_rows(module.table, ids)}

    if in_scope:
        with mirrored.scope():
            tf.saved_model.save(module, str(tmp_path), signatures=rows)
    else:
        tf.saved_model.save(module, str(tmp_path), signatures=rows)
    loaded = tf.saved_model.load(str(tmp_path)).signatures["serving_default"]
    np.testing.assert_array_equal(loaded(tf.constant([5, 1]))["rows"], VALUES[[5, 1]])


@pytest.mark.parametrize("dim", [1, 4, 5, 16])
@pytest.mark.parametrize("count", [0, 3, 1000])
@pytest.mark.parametrize("how", ["as it is", "compiled", "leaving XLA"])
def test_values_are_summed_by_row(dim, count, how):
    generator = np.random.default_rng(dim)
    values = generator.normal(size=(count, dim)).astype(np.float32)
    rows = generator.integers(1, 7, count).astype(np.int32)
    summing = tf.function(sum_by_row, jit_compile=how == "compiled", autograph=False)
    with leaving_xla(how == "leaving XLA"):
        found = summing(tf.constant(values), tf.constant(rows), 8)
    expected = np.zeros([8, dim])
    np.add.at(expected, rows, values)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(found, summing(tf.constant(values), tf.constant(rows), 8))


@pytest.mark.parametrize("inner", [(), (1,), (31,), (32,), (70,), (3, 5)])
@pytest.mark.parametrize("count", [0, 3, 1000])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_slices_are_summed_by_row(inner, count, dtype):
    generator = np.random.default_rng(len(inner))
    values = generator.normal(size=(count, *inner)).astype(dtype)
    rows = generator.integers(1, 700, count)
    expected = np.zeros([701, *inner])
    np.add.at(expected, rows, values)
    found = tf.function(sum_slices, autograph=False)(
        tf.constant(values), tf.constant(rows), tf.constant(701)
    )
    assert found.dtype == dtype
    np.testing.assert_allclose(
        found, expected, rtol=2e-3, atol=2e-2 if dtype == np.float16 else 1e-5
    )


@pytest.mark.parametrize("dim", [1, 31, 32, 70])
def test_weighted_slices_are_summed_term_by_term(dim):
    generator = np.random.default_rng(dim)
    values = generator.normal(size=(40, dim)).astype(np.float32)
    places, rows = generator.integers(0, 40, 500), generator.integers(0, 9, 500)
    weights = generator.normal(size=500).astype(np.float32)
    expected = np.zeros([10, dim])
    np.add.at(expected, rows, weights[:, None] * values[places])
    found = sum_weighted_slices(
        tf.constant(values),
        tf.constant(places, tf.int32),
        tf.constant(weights),
        tf.constant(rows),
        tf.constant(10),
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_slices_of_a_width_that_the_graph_does_not_know_are_summed_too():
    values, rows = np.arange(12, dtype=np.float32).reshape(4, 3), np.array([2, 0, 2, 1])
    unknown = tf.TensorSpec(
        [None, None], tf.float32
    )  # what workers gather of each other's gradients
    total = tf.function(
        lambda found: sum_slices(found, tf.constant(rows), tf.constant(3)),
        input_signature=[unknown],
        autograph=False,
    )
    expected = np.zeros([3, 3])
    np.add.at(expected, rows, values)
    np.testing.assert_allclose(total(tf.constant(values)), expected)


@pytest.mark.parametrize("dtype", [tf.float16, tf.float32, tf.float64])
def test_a_few_rows_are_read_with_a_gradient_as_large_as_their_table(dtype):
    table, ids = tf.constant(VALUES[:9], dtype), tf.constant(IDS % 9)
    gradients = []
    for read in (read_few, tf.gather):
        with tf.GradientTape() as tape:
            tape.watch(table)
            loss = tf.reduce_sum(read(table, ids) ** 2)
        gradients.append(tape.gradient(loss, table))
    np.testing.assert_array_equal(read_few(table, ids), tf.gather(table, ids))
    assert not isinstance(gradients[0], tf.IndexedSlices)
    assert gradients[0].dtype == dtype
    expected = tf.convert_to_tensor(gradients[1])
    np.testing.assert_allclose(gradients[0], expected, rtol=1e-2 if dtype == tf.float16 else 1e-6)
