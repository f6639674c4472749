"""Measurements of trained runs beside accuracy: ENCODE's table 3 and figure 1, and MIMN's memory.

ENCODE's (Zhou et al., 2024) table 3 has the relevance indicator, figure 1 the time of a request: one
user, whose state is stored, and as many candidates as in the paper. The users are those of the test
split with the longest histories, candidates are drawn from the split's own. A memory's measurements
are those of `dgin_tf.inspection.memories`.
"""

import functools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from dgin_tf.inputs.pipeline import BatchOptions, PreparedData
from dgin_tf.inspection import memories
from dgin_tf.schema import CANDIDATE, PREFIX
from experiments.analysis import relevance
from experiments.benchmarking.scoring import stored_answers
from experiments.running import runs

CANDIDATES = 3_000  # "B is about 3000", below table 1
REFERENCE = "din_long"
USER_ID = "user_id"

_SPLIT = "test"
_ROWS = 64  # of a batch
_BATCHES = 16  # of which the users are selected
_USERS = 8
_TURNS = 12  # of every model over all users

Features = dict[str, tf.Tensor]


def relevance_indicators(
    rows: Sequence[str], run_dirs: Mapping[str, str], data: PreparedData
) -> dict[str, float]:
    """Row -> its relevance indicator (table 3) against the row `din_long`.

    Args:
      rows: keys of the rows to measure.
      run_dirs: row -> its run, or a directory of the runs of several seeds, of which the first is used.
      data: the data set that they were trained on.

    Raises:
      ValueError: there is no row to compare with.
    """
    if REFERENCE not in run_dirs:
        raise ValueError(
            f"the relevance indicator compares with the row {REFERENCE!r}, which has no run here; "
            "train it too (--models)."
        )
    model_dirs = {row: run_dirs[row] for row in rows}
    indicators = relevance.indicators(model_dirs, run_dirs[REFERENCE], data, _SPLIT, _BATCHES)
    return {row: indicators[row] for row in rows}


def request_times(
    rows: Sequence[str], run_dirs: Mapping[str, str], data: PreparedData
) -> dict[str, float]:
    """Row -> median milliseconds of a request; the models take turns, request by request.

    Arguments as for `relevance_indicators`.
    """
    models = {row: runs.load_model(run_dirs[row], data) for row in rows}
    lengths = {row: config["data"]["max_history"] for row, (_, config) in models.items()}
    users, candidates = _users_and_candidates(_batches(data, max(lengths.values())))
    answers = {}
    for row, (model, _) in models.items():
        histories = _histories(_batches(data, lengths[row]), users)
        requests = [{**history, **candidates} for history in histories]
        answers[row] = stored_answers(model, requests)
    # Interleaved, so that a load from outside slows all models alike.
    milliseconds: dict[str, list[float]] = {row: [] for row in rows}
    for turn in range(_TURNS + 1):
        for user in range(len(users)):
            for row in rows:
                start_time = time.perf_counter()
                answers[row][user]()
                if turn:  # the first one compiles and warms up
                    milliseconds[row].append(1000 * (time.perf_counter() - start_time))
    return {row: statistics.median(values) for row, values in milliseconds.items()}


def addresses(
    name: str, rows: Sequence[str], run_dirs: Mapping[str, str], data: PreparedData
) -> dict[str, float]:
    """Row -> a value of `memories.addressing`, of the rows with a memory of slots.

    Args:
      name: of the value.
      rows, run_dirs, data: as for `relevance_indicators`.
    """
    values = {}
    for row in rows:
        model, config = runs.load_model(run_dirs[row], data)
        if memories.is_addressed(model):
            batches = _batches(data, config["data"]["max_history"])
            values[row] = statistics.mean(memories.addressing(model, b)[name] for b in batches)
    return values


MEASURES: dict[str, Callable[..., dict[str, float]]] = {
    "relevance indicator": relevance_indicators,
    "request ms": request_times,
    "write entropy": functools.partial(addresses, "write_entropy"),
    "largest read weight": functools.partial(addresses, "largest_read"),
    "effective slots": functools.partial(addresses, "effective_slots"),
}


def _batches(data: PreparedData, max_history: int) -> list[Features]:
    return list(data.evaluation(_SPLIT, BatchOptions(_ROWS, max_history)).take(_BATCHES))


def _users_and_candidates(batches: Sequence[Features]) -> tuple[list[int], Features]:
    """Ids of the users with the longest histories, and candidates [1, 3000] for each of them."""
    users = np.concatenate([batch[USER_ID].numpy() for batch in batches])
    lengths = np.concatenate(
        [np.count_nonzero(batch["hist_mask"].numpy(), axis=1) for batch in batches]
    )
    # A user has several rows, of histories of different lengths; the longest one counts.
    longest = list(dict.fromkeys(users[np.argsort(-lengths, kind="stable")].tolist()))
    pool = {
        name: tf.concat([tf.boolean_mask(b[name], b["cand_mask"]) for b in batches], axis=0)
        for name in batches[0]
        if name.startswith(PREFIX[CANDIDATE])
    }
    indices = np.random.default_rng(0).integers(0, len(pool["cand_mask"]), CANDIDATES)
    candidates = {name: tf.gather(values, indices)[tf.newaxis] for name, values in pool.items()}
    return longest[:_USERS], candidates


def _histories(batches: Sequence[Features], users: Sequence[int]) -> list[Features]:
    """All features of the users but those of candidates, [1, ...] each."""
    features_of: dict[int, Features] = {}
    for batch in batches:
        for row, user in enumerate(batch[USER_ID].numpy().tolist()):
            features_of.setdefault(
                user,
                {
                    name: values[row : row + 1]
                    for name, values in batch.items()
                    if not name.startswith(PREFIX[CANDIDATE])
                },
            )
    return [features_of[user] for user in users]
