"""What watches the runs of the commands: a display, and TensorBoard with the items' names."""

import multiprocessing
import os
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from dgin_tf.inputs.pipeline import PreparedData
from dgin_tf.inspection.traces import Names
from dgin_tf.schema import FIRST_ID, ITEM, PADDING_ID
from dgin_tf.training.display import Display
from dgin_tf.training.observers import Observer
from dgin_tf.training.tensorboard import Projection, TensorBoard

_PROJECTED = 10_000  # items at most, the most frequent ones: as many as a browser shows smoothly


def observers(
    config: Mapping[str, Any], data: PreparedData, run_dir: str | os.PathLike
) -> list[Observer]:
    """What shows a run of a config: text on standard output, and TensorBoard's files.

    In a worker process every line begins with the run's folder, for others share the terminal.
    """
    is_worker = multiprocessing.parent_process() is not None
    name, place = config["model"]["name"], os.fspath(run_dir)
    display = Display(name, f"[{place}] ") if is_worker else Display(f"{name}, {place}")
    return [display, TensorBoard(lambda model: _items(model, data))]


def _items(model: tf.keras.Model, data: PreparedData) -> Projection:
    """Embeddings of the most frequent items with their raw ids, and what the catalogue has of them."""
    vocabulary = data.schema.field(ITEM).vocabulary
    vectors = model.embedding.tables[vocabulary][FIRST_ID : FIRST_ID + _PROJECTED].numpy()
    ids = range(FIRST_ID, FIRST_ID + len(vectors))
    names = Names(data.data_dir)
    columns = {ITEM: names.raw(vocabulary, ids)}
    if names.has_titles(vocabulary):
        columns["title"] = names.titles(vocabulary, ids)
    for name, values in data.catalogue.items():
        values = values[FIRST_ID : FIRST_ID + len(vectors)]
        if name in data.schema.vocabulary_sizes and values.ndim > 1:
            columns[name] = [", ".join(names.of(name, ids[ids != PADDING_ID])) for ids in values]
        elif name in data.schema.vocabulary_sizes:
            columns[name] = names.of(name, values)
        elif values.ndim == 1:
            columns[name] = [f"{value:g}" for value in values]
    rows = list(zip(*columns.values(), strict=True))
    return Projection(vocabulary, vectors, list(columns), rows)
