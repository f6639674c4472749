"""Small synthetic data and models that are trained on it in minutes, for notebooks and examples."""

import os
import pathlib
import tempfile
from collections.abc import Iterable, Mapping
from typing import Any

import ml_collections
import tensorflow as tf

from data_prep import synthetic
from data_prep.engines.local import LocalEngine
from data_prep.pipeline import Preparation, prepare, work_folder
from data_prep.protocol import Protocol
from data_prep.readers import READERS
from dgin_tf.inputs.pipeline import BatchOptions, PreparedData
from dgin_tf.inspection import plots, traces
from dgin_tf.models.base import CTRModel
from experiments.running import defaults, publishing, runs

_CATEGORIES, _FEWEST_ITEMS = 60, 200
_SEED = 1
_LOG_FILE = "log.csv"
_TEST = "test"


def synthetic_data(
    users: int = 3_000,
    mean_length: int = 60,
    targets_per_user: int = 10,
    folder: str | os.PathLike = "",
) -> tuple[PreparedData, synthetic.Truth]:
    """Writes a synthetic log, and prepares it as `data_prep.prepare` does by default.

    Args:
      users: number of users; there is one item for two of them.
      mean_length: events of a user, on average.
      targets_per_user: each user's newest clicks that become examples, with a negative each.
      folder: for `log.csv` and `data/`; a new temporary one where empty.

    Returns:
      The data set, and the causes of all events of the log.
    """
    folder = pathlib.Path(folder or tempfile.mkdtemp(prefix="synthetic-"))
    population = synthetic.Population(
        users=users, events=mean_length * users, longest=8 * mean_length, spread=0.7
    )
    items = max(users // 2, _FEWEST_ITEMS)
    log = synthetic.SyntheticLog(population, synthetic.Catalogue(items, _CATEGORIES))
    truth = synthetic.write_log(log, folder / _LOG_FILE, _SEED)
    data_dir = folder / "data"
    reader = READERS["taobao"]([os.fspath(folder / _LOG_FILE)], {})
    engine = LocalEngine(work_folder(data_dir), progress=False)
    protocol = Protocol(targets_per_user=targets_per_user)
    prepare(Preparation(reader, protocol), os.fspath(data_dir), engine)
    return PreparedData(data_dir), truth


def get_config(
    model: str, epochs: int = 3, max_history: int = 100, **settings: Any
) -> ml_collections.ConfigDict:
    """Default settings of a model, with a batch and a learning rate for small data.

    Args:
      model: its name in `dgin_tf.models.registry.MODELS`.
      epochs: of training.
      max_history: events that the model reads.
      **settings: of the model, such as `k=10`.
    """
    config = defaults.get_config(model)
    config.data.max_history = max_history
    return small(config, epochs, **settings)


def small(
    config: ml_collections.ConfigDict, epochs: int = 3, **settings: Any
) -> ml_collections.ConfigDict:
    """Adapts settings to small data: a batch and a learning rate by which minutes of training suffice.

    Args:
      config: of any model; changed in place.
      epochs: of training.
      **settings: of the model; those that it does not have are left out.

    Returns:
      The config.
    """
    config.model.update({name: v for name, v in settings.items() if name in config.model})
    config.data.batch_rows = 64
    config.loop.epochs = epochs
    config.optimizer.learning_rate = 2e-3
    return config


def train(
    configs: Mapping[str, ml_collections.ConfigDict],
    data: PreparedData,
    folder: str | os.PathLike = "",
) -> dict[str, CTRModel]:
    """Trains a model for each config, and loads its best weights.

    Args:
      configs: name of the run -> its settings.
      data: the data set.
      folder: for the runs; a new temporary one where empty.

    Returns:
      Name of the run -> model.
    """
    folder = pathlib.Path(folder or tempfile.mkdtemp(prefix="runs-"))
    for name, config in configs.items():
        runs.train_seeds(config, data.data_dir, folder / name, [_SEED])
    return {name: runs.load_model(folder / name, data)[0] for name in configs}


def batches_of_test(data: PreparedData, max_history: int = 100) -> Iterable[dict[str, tf.Tensor]]:
    """All batches of the test split."""
    return data.evaluation(_TEST, BatchOptions(128, max_history))


def some_users(data: PreparedData, length: int, max_history: int = 100) -> dict[str, tf.Tensor]:
    """A batch of the test split, the one with the history that is nearest to a length."""
    return dict(publishing.typical_rows(data, _TEST, BatchOptions(64, max_history), length)[0][0])


def one_user(
    data: PreparedData, length: int, candidates: int = 4, max_history: int = 100
) -> dict[str, tf.Tensor]:
    """A test user's history against the user's next click and what others clicked, a batch of one row.

    Args:
      data: the data set.
      length: events that the history has, approximately.
      candidates: how many.
      max_history: events that are read.
    """
    options = BatchOptions(64, max_history)
    batch, row = publishing.typical_rows(data, _TEST, options, length)[0]
    return traces.with_candidates(batch, row, candidates, data.schema)


def show(figure: Any) -> None:
    """Displays a figure in a notebook, as wide as it is in reports."""
    from IPython.display import Image, display  # of the extra "dev"

    width = round(plots.CSS_PIXELS_PER_INCH * figure.get_figwidth())
    display(Image(plots.to_png(figure), width=width))
