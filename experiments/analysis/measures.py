"""What the paper measures beside accuracy, on trained runs: the relevance of table 3, figure 1's time.

A request has one person, whose state is at hand, and so many candidates as the paper has. People are
those of the test split with the longest histories, candidates are drawn from the split's own.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from dgin_tf.inputs.pipeline import BatchOptions, PreparedData
from dgin_tf.schema import CANDIDATE, PREFIX
from experiments.analysis import relevance
from experiments.benchmarking.scoring import stored_answers
from experiments.running import runs

CANDIDATES = 3_000  # "B is about 3000", below table 1
REFERENCE = "din_long"
USER_ID = "user_id"

_SPLIT = "test"
_ROWS = 64  # of a batch that is looked through
_BATCHES = 16
_PEOPLE = 8
_TURNS = 12  # of every model over all people

Features = dict[str, tf.Tensor]


def relevance_indicators(
    rows: Sequence[str], run_dirs: Mapping[str, str], data: PreparedData
) -> dict[str, float]:
    """Row -> its relevance indicator (table 3) against the row `din_long`.

    Args:
      rows: whose are wanted.
      run_dirs: row -> its run, or a directory of the runs of several seeds, whose first is taken.
      data: that they were trained on.

    Raises:
      ValueError: there is no row to compare with.
    """
    if REFERENCE not in run_dirs:
        raise ValueError(
            f"the relevance indicator compares with the row {REFERENCE!r}, which has no run here; "
            "train it too (--models)."
        )
    wanted = {row: run_dirs[row] for row in rows}
    found = relevance.indicators(wanted, run_dirs[REFERENCE], data, _SPLIT, _BATCHES)
    return {row: found[row] for row in rows}


def request_times(
    rows: Sequence[str], run_dirs: Mapping[str, str], data: PreparedData
) -> dict[str, float]:
    """Row -> median milliseconds of a request; the models take turns, request by request.

    Arguments as for `relevance_indicators`.
    """
    loaded = {row: runs.load_model(run_dirs[row], data) for row in rows}
    lengths = {row: config["data"]["max_history"] for row, (_, config) in loaded.items()}
    people, candidates = _asked(_batches(data, max(lengths.values())))
    answers = {}
    for row, (model, _) in loaded.items():
        histories = _histories(_batches(data, lengths[row]), people)
        answers[row] = stored_answers(model, [{**found, **candidates} for found in histories])
    milliseconds: dict[str, list[float]] = {row: [] for row in rows}
    for turn in range(_TURNS + 1):
        for person in range(len(people)):
            for row in rows:
                began = time.perf_counter()
                answers[row][person]()
                if turn:  # the first one compiles and warms up
                    milliseconds[row].append(1000 * (time.perf_counter() - began))
    return {row: statistics.median(values) for row, values in milliseconds.items()}


MEASURES: dict[str, Callable[..., dict[str, float]]] = {
    "relevance indicator": relevance_indicators,
    "request ms": request_times,
}


def _batches(data: PreparedData, max_history: int) -> list[Features]:
    return list(data.evaluation(_SPLIT, BatchOptions(_ROWS, max_history)).take(_BATCHES))


def _asked(batches: Sequence[Features]) -> tuple[list[int], Features]:
    """The people with the longest histories, and candidates [1, 3000] for each of them."""
    users = np.concatenate([batch[USER_ID].numpy() for batch in batches])
    lengths = np.concatenate(
        [np.count_nonzero(batch["hist_mask"].numpy(), axis=1) for batch in batches]
    )
    longest = list(dict.fromkeys(users[np.argsort(-lengths, kind="stable")].tolist()))
    pool = {
        name: tf.concat([tf.boolean_mask(b[name], b["cand_mask"]) for b in batches], axis=0)
        for name in batches[0]
        if name.startswith(PREFIX[CANDIDATE])
    }
    drawn = np.random.default_rng(0).integers(0, len(pool["cand_mask"]), CANDIDATES)
    candidates = {name: tf.gather(values, drawn)[tf.newaxis] for name, values in pool.items()}
    return longest[:_PEOPLE], candidates


def _histories(batches: Sequence[Features], people: Sequence[int]) -> list[Features]:
    """Everything of the people but candidates, [1, ...] each."""
    found: dict[int, Features] = {}
    for batch in batches:
        for row, user in enumerate(batch[USER_ID].numpy().tolist()):
            found.setdefault(
                user,
                {
                    name: values[row : row + 1]
                    for name, values in batch.items()
                    if not name.startswith(PREFIX[CANDIDATE])
                },
            )
    return [found[user] for user in people]
