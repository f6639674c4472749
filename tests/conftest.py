"""Fixtures that tests of several folders share."""

import numpy as np
import pytest

import dgin_tf  # noqa: F401  (selects Keras 2 before TensorFlow is imported)

import tensorflow as tf  # isort: skip

# Two logical devices, so that replicas can be tested; possible only before TensorFlow first runs.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)


@pytest.fixture
def two_devices() -> list[str]:
    """Names of two devices for strategies with two replicas."""
    return [device.name for device in tf.config.list_logical_devices("CPU")]


@pytest.fixture(scope="session")
def mirrored():
    """The one MirroredStrategy of a test process, over two logical CPUs.

    Only one, because the collectives of a second one would meet the cached shapes of the first.
    """
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"], tf.distribute.ReductionToOneDevice())


@pytest.fixture
def two_replicas(mirrored):
    """Runs a function under two replicas, each on its half of the arrays' first axis."""

    def run(function, *arrays):
        halves = [np.split(array, 2) for array in arrays]
        values = [
            mirrored.experimental_distribute_values_from_function(
                lambda context, half=half: tf.constant(half[context.replica_id_in_sync_group])
            )
            for half in halves
        ]
        return tf.function(lambda *args: mirrored.run(function, args=args), autograph=False)(
            *values
        )

    return run
