"""What searches do with trained runs: how far back they reach, what they and an index find."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

from dgin_tf.inputs.pipeline import BatchOptions, PreparedData
from dgin_tf.inspection import returns, traces
from dgin_tf.inspection import searches as units
from dgin_tf.layers.search.alsh import ALSHSearch, AsymmetricHash, recall
from dgin_tf.layers.search.soft import SoftSearch
from dgin_tf.models.base import CTRModel
from dgin_tf.records import LABEL
from experiments.running import runs

Run: TypeAlias = tuple[
    CTRModel, dict[str, Any]
]  # a model and its settings, as `runs.load_model` gives them

CLICKS = "clicks"


def days_since_category(
    loaded: Mapping[str, Run], data: PreparedData, split: str, max_history: int
) -> dict[str, np.ndarray]:
    """Figure 4 and table 6: d_category of what each model ranks first.

    Args:
      loaded: name -> run.
      data: the data set.
      split: whose candidates are ranked, all models the same ones.
      max_history: events in which days are counted, whatever a model sees.

    Returns:
      Name -> days as of `returns.days_since`, one a row; under `clicks` those of what was clicked.
    """
    days: dict[str, list[np.ndarray]] = {name: [] for name in (CLICKS, *loaded)}
    for features in data.evaluation(split, BatchOptions(128, max_history)):
        since = returns.days_since(features)
        mask = features["cand_mask"].numpy()
        days[CLICKS].append(since[mask & (features[LABEL].numpy() > 0)])
        for name, (model, config) in loaded.items():
            seen = _newest(features, config["data"]["max_history"])
            logits = model(seen, training=False)["logits"].numpy()
            days[name].append(since[returns.ranked_first(logits, mask)])
    return {name: np.concatenate(parts) for name, parts in days.items()}


def index_recall(
    run: Run, data: PreparedData, tables: Sequence[int], hashes: int = 6, batches: int = 4
) -> dict[int, tuple[float, float]]:
    """How much of a trained soft search its ALSH index finds, on histories of the test split.

    Args:
      run: of a model with soft search.
      data: the data set.
      tables: numbers of tables to try.
      hashes: of a table.
      batches: about how many batches of 64 rows are searched.

    Returns:
      Tables -> recall of the exact search, and share of the events that were compared.

    Raises:
      ValueError: the run's model has no soft search, or no history is longer than its k.
    """
    model, config = run
    trained = getattr(getattr(model.encoders.get(""), "long", None), "unit", None)
    if not isinstance(trained, SoftSearch):
        raise ValueError(
            f"expected a run of soft search; got one of {config['model']['name']!r}, which has no "
            "products to index."
        )
    options = BatchOptions(64, config["data"]["max_history"])
    # Shards are in the order of their lengths; every so many batches, for histories of all lengths.
    apart = max(data.steps("test", options) // batches, 1)
    searched = list(data.evaluation("test", options).shard(apart, apart - 1))
    found = {}
    for count in tables:
        unit = ALSHSearch(
            AsymmetricHash(count, hashes),
            bucket=options.max_history,
            fallback=False,
            k=trained.k,
            dim=trained.dim,
        )
        unit(tf.zeros([1, 1, model.embedding.event_dim]))
        unit.target_kernel.assign(trained.target_kernel)
        unit.event_kernel.assign(trained.event_kernel)
        shares = [
            recall(unit, model.embedding.history(batch), model.embedding.target(batch))
            for batch in searched
        ]
        with_choice = [pair for pair in shares if not np.isnan(pair).any()]
        if not with_choice:
            raise ValueError(
                f"expected test histories of more than k = {trained.k} events, found none; there is "
                "nothing to choose from."
            )
        share, seen = np.mean(with_choice, axis=0)
        found[count] = float(share), float(seen)
    return found


def load(named: Sequence[str], data: PreparedData) -> dict[str, Run]:
    """Runs by name, from NAME=PATH each; a path without a name is called after its last part."""
    loaded = {}
    for value in named:
        name, _, path = value.rpartition("=")
        loaded[name or os.path.basename(path)] = runs.load_model(path, data)
    return loaded


def _newest(features, count):
    """The batch with histories of the newest events alone, as the model was trained on."""
    length = features["hist_mask"].numpy().sum(axis=1)
    width = min(count, features["hist_mask"].shape[1])
    places = np.maximum(length - width, 0)[:, None] + np.arange(width)
    return {
        name: tf.gather(values, places, batch_dims=1) if name.startswith("hist_") else values
        for name, values in features.items()
    }


def compare_units(
    model_dirs: dict[str, str],
    reference_dir: str,
    data: PreparedData,
    split: str,
    batches: int,
    k: int,
) -> dict[str, dict[str, dict[str, float]]]:
    """Overlap of the units, and their recall of full target attention.

    Args:
      model_dirs: name -> run of a model with a search unit.
      reference_dir: run of a `din_long`.
      data: what they were trained on.
      split: whose histories.
      batches: how many batches to look through.
      k: how many favorites of the attention are asked for.

    Returns:
      `overlap` and `recall`, as the functions of `dgin_tf.inspection.searches` give them.

    Raises:
      ValueError: a model searches nothing, or the reference does not attend to everything.
    """
    reference, config = runs.load_model(reference_dir, data)
    options = BatchOptions(config["evaluation_rows"], config["data"]["max_history"])
    chosen = list(data.evaluation(split, options).take(batches))
    attention = [units.long_attention(traces.trace(reference, batch)) for batch in chosen]
    width = max(part.shape[2] for part in attention)
    found = {}
    for name, path in model_dirs.items():
        model, _ = runs.load_model(path, data)
        parts = [units.found_events(traces.trace(model, batch)) for batch in chosen]
        found[name] = np.concatenate([_padded(part, width) for part in parts])
    joined = np.concatenate([_padded(part, width) for part in attention])
    return {
        "overlap": units.overlap(found),
        "recall": units.recall(found, joined, k),
    }


def _padded(part, width):
    return np.pad(part, [(0, 0), (0, 0), (0, width - part.shape[2])])
