"""Starts of a row of a table: how large embeddings begin, chosen on validation from a small grid."""

import copy
import itertools
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import ml_collections

from experiments.running.runs import STARTS, SeedPool

GRID = tuple(itertools.product((None, 1.0, 2.0), (None, 0.9)))  # embedding_limit, momentum
SEED = 0  # none of a table's


def try_starts(
    pool: SeedPool, config: ml_collections.ConfigDict, data_dir: str, folder: str | os.PathLike
) -> Callable[[], list[tuple[float | None, float | None, float]]]:
    """Starts a run of one seed for every start of the grid.

    Args:
      pool: processes.
      config: settings of the row.
      data_dir: prepared data set.
      folder: of the row; the runs are in its `starts/`.

    Returns:
      Function that waits for them and gives each start with its validation AUC.
    """
    waiting = []
    for limit, momentum in GRID:
        candidate = copy.deepcopy(config)
        set_start(candidate, limit, momentum)
        path = pathlib.Path(folder) / STARTS / f"{limit}-{momentum}"
        waiting.append((limit, momentum, pool.gather(candidate, data_dir, path, [SEED])))
    return lambda: [(*start, wait()["validation"]["auc"]) for *start, wait in waiting]


def best_start(starts: list[tuple[float | None, float | None, float]]) -> tuple[Any, ...]:
    """`embedding_limit` and `momentum` of the highest validation AUC, the first among equals."""
    return tuple(max(starts, key=lambda start: start[-1])[:2])


def set_start(
    config: ml_collections.ConfigDict, limit: float | None, momentum: float | None
) -> None:
    """Sets a start in the settings of a row."""
    config.network.embedding_limit, config.network.momentum = limit, momentum


def starts_markdown(
    results: Mapping[str, Mapping[str, Mapping[str, Any]]], labels: Mapping[str, str]
) -> str:
    """Formats the grid of every row that was chosen from one as Markdown; empty where none was.

    Args:
      results: data set -> key of a row -> common result.
      labels: key of a row -> its name in the table.
    """
    lines = []
    for name, rows in results.items():
        for key, result in rows.items():
            if starts := [tuple(start) for start in result.get(STARTS, ())]:
                best = best_start(starts)
                cells = [
                    f"**{auc:.4f}**" if (limit, momentum) == best else f"{auc:.4f}"
                    for limit, momentum, auc in starts
                ]
                lines.append(" | ".join(["", name, labels[key], *cells, ""]).strip())
    if not lines:
        return ""
    heads = [f"{limit or 'Glorot'}, {momentum or 'default'}" for limit, momentum in GRID]
    return "\n".join(
        [
            "### Starts: embedding_limit, momentum (validation AUC of one seed)",
            "",
            f"| data | model | {' | '.join(heads)} |",
            f"|{' --- |' * (2 + len(heads))}",
            *lines,
            "",
        ]
    )
