"""Learns the edges of DGIN's statistics from the training split, and prints them as a setting.

    python -m experiments.dgin.learn_edges --config=experiments/dgin/taobao.py:dgin --data_dir=D

What it prints goes behind the command that trains.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import sys  # noqa: E402
from collections import defaultdict  # noqa: E402

import ml_collections  # noqa: E402
import numpy as np  # noqa: E402
from absl import flags  # noqa: E402
from ml_collections import config_flags  # noqa: E402

from dgin_tf import command_line  # noqa: E402
from dgin_tf.inputs.pipeline import BatchOptions, PreparedData  # noqa: E402
from dgin_tf.layers.group_statistics import quantile_edges  # noqa: E402
from experiments import runs  # noqa: E402


def learn_edges(
    config: ml_collections.ConfigDict, data: PreparedData, classes: int = 16, batches: int = 50
) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Edges between classes that are about equally frequent among the groups of training histories.

    Args:
      config: of a run of DGIN with statistics.
      data: the data set, of which only the training split is read.
      classes: of a statistic at most.
      batches: how many batches are looked at.

    Returns:
      (statistic, edges) pairs for the setting `config.model.edges`; statistics that are the same for
      all groups are left out.

    Raises:
      ValueError: the config's model has no statistics.
    """
    plain = runs.plain_config(config)
    model = runs.make_model(plain, data.schema)
    module = model.encoders.get("group_module")
    if module is None or module.statistics is None:
        raise ValueError(
            f"expected a config of DGIN with statistics; got {plain['model']['name']!r} without."
        )
    sample = defaultdict(list)
    for features in data.training(BatchOptions(**plain["data"]), seed=0, epoch=0).take(batches):
        history = model.seen(model.embedding.history(features))
        groups = module.sorted_into_groups(history)
        is_group = groups.mask.numpy()
        counted = module.statistics.count(groups, module.keys(history), history)
        for name, values in counted.items():
            sample[name].append(values.numpy()[is_group])
    learned = {
        name: quantile_edges(np.concatenate(values), classes) for name, values in sample.items()
    }
    return tuple((name, tuple(edges)) for name, edges in learned.items() if edges)


def define_flags(values: flags.FlagValues) -> None:
    """Adds the command's flags to `values`; not on import, which other commands do too."""
    config_flags.DEFINE_config_file(
        "config", None, "Config file, and :row after it.", flag_values=values
    )
    flags.DEFINE_string("data_dir", None, "Prepared data set.", flag_values=values, required=True)
    flags.DEFINE_integer("classes", 16, "Classes of a statistic at most.", flag_values=values)
    flags.DEFINE_integer("batches", 50, "Batches that are looked at.", flag_values=values)
    flags.mark_flag_as_required("config", values)


def main(_: object) -> None:
    """Prints the edges."""
    values = flags.FLAGS
    data = PreparedData(values.data_dir)
    edges = learn_edges(values.config, data, values.classes, values.batches)
    sys.stdout.write(f'--config.model.edges="{edges!r}"\n')


if __name__ == "__main__":
    define_flags(flags.FLAGS)
    command_line.run(main)
