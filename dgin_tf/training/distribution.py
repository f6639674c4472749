"""`tf.distribute` strategies by their names on the command line.

With several machines, each runs the same command and `TF_CONFIG` says which of them it is.
"""

import json
import os
from typing import Any

import tensorflow as tf

from dgin_tf.ops.parts import PARTS

STRATEGIES = ("default", "mirrored", "multi_worker", "parameter_server")


def make_strategy(name: str) -> tf.distribute.Strategy:
    """Creates a strategy by name, before anything else touches TensorFlow's devices.

    Args:
      name: `default` (one device), `mirrored` (all GPUs of this machine, or all logical CPUs where it
        has no GPU), `multi_worker` (mirrored over the workers in TF_CONFIG) or `parameter_server`
        (variables on the parameter servers in TF_CONFIG, workers that step on their own; this
        process is the chief).

    Raises:
      ValueError: the name is unknown, or TF_CONFIG lacks what the strategy needs.
    """
    if name == "default":
        return tf.distribute.get_strategy()
    if name == "mirrored":
        return _mirrored()
    if name == "multi_worker":
        _cluster_of(name, "worker")
        return tf.distribute.MultiWorkerMirroredStrategy()
    if name == "parameter_server":
        cluster = _cluster_of(name, "ps")
        return tf.distribute.ParameterServerStrategy(
            tf.distribute.cluster_resolver.TFConfigClusterResolver(),
            # Only tables are large enough to be spread over several servers.
            variable_partitioner=tf.distribute.experimental.partitioners.MinSizePartitioner(
                min_shard_bytes=1 << 20, max_shards=len(cluster["ps"])
            ),
        )
    raise ValueError(f"expected a strategy among {', '.join(STRATEGIES)}; got {name!r}.")


def split_cpu(devices: int) -> None:
    """Splits the CPU into logical devices, so that strategies can be tried without GPUs.

    Raises:
      ValueError: TensorFlow has already made its devices.
    """
    cpu = tf.config.list_physical_devices("CPU")[0]
    try:
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * devices
        )
    except RuntimeError as error:
        raise ValueError(
            f"the CPU must be split into {devices} logical devices before TensorFlow is used; "
            f"start a new process for it ({error})."
        ) from error


def serves_others() -> bool:
    """Returns True where TF_CONFIG makes this process a ps or a worker of a `parameter_server` run."""
    config = _tf_config()
    is_task = config.get("task", {}).get("type") in ("ps", "worker")
    return is_task and "ps" in config.get("cluster", {})


def serve() -> None:
    """Serves variables or steps to the chief until the process is stopped; never returns."""
    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    server = tf.distribute.Server(
        resolver.cluster_spec(),
        job_name=resolver.task_type,
        task_index=resolver.task_id,
        protocol=resolver.rpc_layer or "grpc",
        start=True,
    )
    server.join()


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Returns True in the process that writes the files, one of several workers."""
    resolver = strategy.cluster_resolver
    if resolver is None or not resolver.task_type:
        return True
    if resolver.task_type == "worker":  # the first one is the chief of a cluster without a chief
        return "chief" not in resolver.cluster_spec().as_dict() and resolver.task_id == 0
    return resolver.task_type == "chief"


def is_asynchronous(strategy: tf.distribute.Strategy) -> bool:
    """Returns True where workers step on their own, so that runs differ: `parameter_server`."""
    return isinstance(strategy, tf.distribute.ParameterServerStrategy)


def check_batch(batch_rows: int, strategy: tf.distribute.Strategy) -> None:
    """Raises ValueError unless the global batch can be dealt evenly to the replicas."""
    replicas = strategy.num_replicas_in_sync
    if batch_rows % replicas:
        raise ValueError(
            f"expected a batch that {replicas} replicas divide evenly; got {batch_rows} rows. Use "
            f"{max(batch_rows // replicas, 1) * replicas} or {-(-batch_rows // replicas) * replicas}."
        )


def deal_parts(batches: tf.data.Dataset, strategy: tf.distribute.Strategy) -> Any:
    """Batches of which each replica gets its rows of every part; others are left to Keras.

    Keras deals batches whose tensors have equally many rows, which those of parts have not.

    Args:
      batches: as `PreparedData.training` makes them for as many replicas.
      strategy: what they are dealt to.
    """
    replicas = strategy.num_replicas_in_sync
    if replicas == 1 or PARTS not in batches.element_spec:
        return batches

    def of_worker(context):
        local = replicas // context.num_input_pipelines
        first = context.input_pipeline_id * local

        def of_replicas(batch):
            def deal(tensor):
                # In turns, since rows of one length are side by side in a part.
                return tf.stack([tensor[i::replicas] for i in range(first, first + local)])

            return tf.nest.map_structure(deal, batch)

        return batches.map(of_replicas).unbatch().prefetch(2 * local)

    return strategy.distribute_datasets_from_function(of_worker)


def _mirrored() -> tf.distribute.Strategy:
    if tf.config.list_physical_devices("GPU"):
        return tf.distribute.MirroredStrategy()
    devices = [device.name for device in tf.config.list_logical_devices("CPU")]
    # On CPUs the default is a collective all-reduce, whose keys two strategies in one process share:
    # they abort each other. Adding up on one device costs the same there and is deterministic.
    return tf.distribute.MirroredStrategy(devices, tf.distribute.ReductionToOneDevice())


def _cluster_of(strategy: str, job: str) -> dict[str, list[str]]:
    cluster = _tf_config().get("cluster", {})
    if job not in cluster:
        raise ValueError(
            f"strategy {strategy} expects TF_CONFIG with a cluster that has {job!r} tasks; got "
            f"{sorted(cluster) or 'none'}. See https://www.tensorflow.org/guide/distributed_training."
        )
    return cluster


def _tf_config() -> dict:
    text = os.environ.get("TF_CONFIG", "{}")
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"TF_CONFIG must be JSON; got {text!r} ({error}).") from error
