"""What tensors of a function live at a time, in processes whose TensorFlow reports it."""

import concurrent.futures
import multiprocessing
import os

import pytest

from experiments.benchmarking import live_tensors

MIB = 2**18  # numbers of four bytes


def peak_of_a_chain(reports):
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"  # whose allocator reports what is large
    if reports:
        live_tensors.report_allocations()
    import tensorflow as tf

    values = tf.random.stateless_normal([MIB], (1, 2))

    @tf.function(autograph=False)
    def chain(values):
        wide = tf.tile(values[tf.newaxis], [10, 1])
        twice = tf.concat([wide, wide], axis=0)  # together 30 MiB, of which one row is left
        row = tf.gather(twice, 3)
        with tf.control_dependencies([row]):
            return tf.tile(values[tf.newaxis], [25, 1])[7] + row

    chain(values)
    return live_tensors.peak_mib(lambda: chain(values)[0].numpy())


def in_own_process(function, *args):
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, spawn) as pool:
        return pool.submit(function, *args).result()


def test_the_peak_counts_what_lives_at_a_time_and_nothing_from_before():
    assert 30 <= in_own_process(peak_of_a_chain, True) < 33


def test_an_allocator_that_reports_nothing_is_an_error():
    with pytest.raises(RuntimeError, match="call report_allocations before"):
        in_own_process(peak_of_a_chain, False)
