"""Learns the edges of DGIN's statistics (Eq. 3) from the training split, and stores them in schema.json.

    python -m experiments.dgin.learn_edges --config=experiments/dgin/taobao.py:dgin --data_dir=D

Trainings on D that group by the config's key use them from then on, unless `config.model.edges` says
otherwise. What was trained before keeps its own; it can be evaluated and exported as before, but a run
that is under way cannot be gone on with. Preparing D anew forgets them. --print_only stores nothing, and
prints the setting to put behind the command that trains.
"""

import dataclasses
import os
import sys
from collections import defaultdict

import ml_collections
import numpy as np
from absl import flags
from ml_collections import config_flags

from dgin_tf.commands import command_line
from dgin_tf.inputs.pipeline import BatchOptions, PreparedData
from dgin_tf.layers.group_statistics import MEAN, quantile_edges
from dgin_tf.schema import SCHEMA_FILE, Schema
from experiments.running import runs

Edges = tuple[tuple[str, tuple[int, ...]], ...]


def learn_edges(
    config: ml_collections.ConfigDict, data: PreparedData, classes: int = 16, batches: int = 50
) -> Edges:
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
        name: statistic_edges(name, np.concatenate(values), classes)
        for name, values in sample.items()
    }
    return tuple((name, tuple(edges)) for name, edges in learned.items() if edges)


def statistic_edges(name: str, values: np.ndarray, classes: int) -> list[int]:
    """Quantiles; of a mean those of what is known, behind a class for what is not."""
    known = values[values > 0]
    if not name.startswith(MEAN) or not known.size:
        return quantile_edges(values, classes)
    return [1, *quantile_edges(known, max(2, classes - 1))]


def store_edges(
    data_dir: str | os.PathLike, key: str, edges: Edges, overwrite: bool = False
) -> None:
    """Puts the edges of a key into the schema of a prepared data set.

    Args:
      data_dir: the data set.
      key: interest key of the groups that they were learned from.
      edges: what `learn_edges` gave, with all types of behavior.
      overwrite: whether other edges of the key may be replaced.

    Raises:
      ValueError: there are other edges of the key, and they are to stay.
    """
    schema, learned = Schema.load(data_dir), dict(edges)
    held = schema.statistic_edges.get(key, {})
    if held == learned:
        return
    if held and not overwrite:
        raise ValueError(
            f"{SCHEMA_FILE} in {os.fspath(data_dir)!r} has other edges of {key!r} already, {held}; give "
            "--overwrite to replace them, or the config that they were learned with."
        )
    found = {**schema.statistic_edges, key: learned}
    found = {name: statistics for name, statistics in found.items() if statistics}
    dataclasses.replace(schema, statistic_edges=found).save(data_dir)


def define_flags(values: flags.FlagValues) -> None:
    """Adds the command's flags to `values`; not on import, which other commands do too."""
    config_flags.DEFINE_config_file(
        "config", None, "Config file, and :row after it.", flag_values=values
    )
    flags.DEFINE_string("data_dir", None, "Prepared data set.", flag_values=values, required=True)
    flags.DEFINE_integer("classes", 16, "Classes of a statistic at most.", flag_values=values)
    flags.DEFINE_integer("batches", 50, "Batches that are looked at.", flag_values=values)
    flags.DEFINE_boolean("print_only", False, "Store nothing.", flag_values=values)
    flags.DEFINE_boolean("overwrite", False, "Replace other edges.", flag_values=values)
    flags.mark_flag_as_required("config", values)


def main(_: object) -> None:
    """Stores or prints the edges."""
    values = flags.FLAGS
    model = values.config.model
    if not values.print_only and model.get("behavior_types"):
        raise ValueError(
            "the edges in a schema are of all types of behavior; got a config of "
            f"{list(model.behavior_types)} alone. Give another, or --print_only."
        )
    data = PreparedData(values.data_dir)
    edges = learn_edges(values.config, data, values.classes, values.batches)
    if values.print_only:
        sys.stdout.write(f'--config.model.edges="{edges!r}"\n')
        return
    store_edges(values.data_dir, model.key, edges, values.overwrite)
    path = os.path.join(values.data_dir, SCHEMA_FILE)
    sys.stdout.write(f"{path} has the edges of {model.key}: {dict(edges)}\n")


if __name__ == "__main__":
    define_flags(flags.FLAGS)
    command_line.run(main)
