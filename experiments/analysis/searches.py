"""Searches of trained runs: their reach into the past, their recall, and that of an index (SIM)."""

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

Run: TypeAlias = tuple[CTRModel, dict[str, Any]]  # model and config, see `runs.load_model`

CLICKS = "clicks"


def days_since_category(
    models: Mapping[str, Run], data: PreparedData, split: str, max_history: int
) -> dict[str, np.ndarray]:
    """d_category of the candidates that each model ranks first (SIM, figure 4 and table 6).

    Args:
      models: name -> run.
      data: the data set.
      split: name of the split, whose candidates all models rank.
      max_history: events in which days are counted, whatever a model reads.

    Returns:
      Name -> days as of `returns.days_since`, one a row; under `clicks` those of the clicks.
    """
    days: dict[str, list[np.ndarray]] = {name: [] for name in (CLICKS, *models)}
    for features in data.evaluation(split, BatchOptions(128, max_history)):
        since = returns.days_since(features)  # [users, candidates]
        mask = features["cand_mask"].numpy()
        days[CLICKS].append(since[mask & (features[LABEL].numpy() > 0)])
        for name, (model, config) in models.items():
            batch = _newest(features, config["data"]["max_history"])
            logits = model(batch, training=False)["logits"].numpy()
            days[name].append(since[returns.ranked_first(logits, mask)])
    return {name: np.concatenate(parts) for name, parts in days.items()}


def index_recall(
    run: Run, data: PreparedData, tables: Sequence[int], hashes: int = 6, batches: int = 4
) -> dict[int, tuple[float, float]]:
    """Recall of ALSH indexes of a trained soft search, on histories of the test split.

    Args:
      run: of a model with soft search.
      data: the data set.
      tables: numbers of tables to try.
      hashes: hashes of a table.
      batches: number of batches of 64 rows, approximately.

    Returns:
      Tables -> recall of the exact search, and share of the events that were compared.

    Raises:
      ValueError: the run's model has no soft search, or no history is longer than its k.
    """
    model, config = run
    encoder = next(iter(model.encoders.values()))
    soft_search = getattr(getattr(encoder, "long", None), "unit", None)
    if not isinstance(soft_search, SoftSearch):
        raise ValueError(
            f"expected a run of soft search; got one of {config['model']['name']!r}, which has no "
            "products to index."
        )
    options = BatchOptions(64, config["data"]["max_history"])
    # Records are in the order of their lengths; evenly spaced batches have histories of all lengths.
    spacing = max(data.steps("test", options) // batches, 1)
    test_batches = list(data.evaluation("test", options).shard(spacing, spacing - 1))
    recall_of = {}
    for count in tables:
        unit = ALSHSearch(
            AsymmetricHash(count, hashes),
            bucket=options.max_history,
            fallback=False,
            k=soft_search.k,
        )
        unit.query(tf.zeros([1, 1, model.embedding.event_dim]))  # creates the weights
        unit.query.set_weights(soft_search.query.get_weights())
        shares = [
            recall(unit, model.embedding.history(batch), model.embedding.target(batch))
            for batch in test_batches
        ]
        finite_shares = [pair for pair in shares if not np.isnan(pair).any()]
        if not finite_shares:
            raise ValueError(
                f"expected test histories of more than k = {soft_search.k} events, found none; every "
                "search would retrieve all of them."
            )
        mean_recall, read_share = np.mean(finite_shares, axis=0)
        recall_of[count] = float(mean_recall), float(read_share)
    return recall_of


def load(addresses: Sequence[str], data: PreparedData) -> dict[str, Run]:
    """Loads runs by name, from NAME=PATH each; a path without a name is called after its last part."""
    models = {}
    for value in addresses:
        name, _, path = value.rpartition("=")
        models[name or os.path.basename(path)] = runs.load_model(path, data)
    return models


def _newest(features, count):
    """Batch with histories of the newest events alone, as the model was trained on."""
    length = features["hist_mask"].numpy().sum(axis=1)
    width = min(count, features["hist_mask"].shape[1])
    # Padding is at the end: the newest events are those up to the length of each row.
    indices = np.maximum(length - width, 0)[:, None] + np.arange(width)  # [users, width]
    return {
        name: tf.gather(values, indices, batch_dims=1) if name.startswith("hist_") else values
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
    """Overlap of search units, and their recall of full target attention.

    Args:
      model_dirs: name -> run of a model with a search unit.
      reference_dir: run of a `din_long`.
      data: the data set that they were trained on.
      split: name of the split.
      batches: number of batches to read.
      k: number of events of the highest attention that count as relevant.

    Returns:
      `overlap` and `recall`, as the functions of `dgin_tf.inspection.searches` give them.

    Raises:
      ValueError: a model searches nothing, or the reference does not attend to everything.
    """
    reference, config = runs.load_model(reference_dir, data)
    options = BatchOptions(config["evaluation_rows"], config["data"]["max_history"])
    split_batches = list(data.evaluation(split, options).take(batches))
    parts = [units.long_attention(traces.trace(reference, batch)) for batch in split_batches]
    width = max(part.shape[2] for part in parts)  # batches differ in the length of their histories
    attention = np.concatenate([units.pad_time(part, width) for part in parts])
    retrievals = {}
    for name, path in model_dirs.items():
        model, _ = runs.load_model(path, data)
        parts = [units.retrieved_events(traces.trace(model, batch)) for batch in split_batches]
        retrievals[name] = np.concatenate([units.pad_time(part, width) for part in parts])
    return {
        "overlap": units.overlap(retrievals),
        "recall": units.recall(retrievals, attention, k),
    }
