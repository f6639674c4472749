"""Writes a synthetic log and its truth."""

import concurrent.futures
import dataclasses
import os
import pathlib
import zipfile
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.csv

from data_prep.synthetic.config import BEHAVIORS, SyntheticLog
from data_prep.synthetic.draw import Events, draw_events
from data_prep.synthetic.sampling import csr_offsets
from data_prep.synthetic.slots import history_lengths
from data_prep.synthetic.truth import LOG_FACTS, Truth, target_causes, truth_path
from dgin_tf.integrity import file_facts
from dgin_tf.ownership import make_folder
from dgin_tf.schema import replacing


def write_log(
    log: SyntheticLog,
    path: str | os.PathLike,
    seed: int,
    truth_targets: int = 1,
    progress: Callable[[int], object] = lambda events: None,
) -> Truth:
    """Writes the log to `path` and its truth to `truth_path(path)`, both whole or not at all.

    Args:
      log: the generative model.
      path: the CSV file; an earlier synthetic log there is replaced, and its folder created where it
        does not exist.
      seed: non-negative; the same seed gives the same bytes.
      truth_targets: number of each user's last events whose causes are listed in the truth file.
      progress: called with the number of events each time a chunk has been drawn.

    Returns:
      The truth, as `Truth.load` would read it.

    Raises:
      ValueError: `seed` or `truth_targets` is negative, or there is another file.
      OSError: the files cannot be written; nothing is left behind.
    """
    if seed < 0 or truth_targets < 0:
        raise ValueError(
            "seed and truth_targets must be non-negative; got seed "
            f"{seed}, truth_targets {truth_targets}."
        )
    make_folder(pathlib.Path(path).parent)
    _check_own(pathlib.Path(path))
    lengths = history_lengths(log.population, np.random.default_rng([seed, 0]))
    # Rank -> public id; user blocks are in the order of the Tianchi file.
    user_ids = _in_string_order(log.population.users)
    threads, mechanisms, interests, causes = [], [], [], []
    with replacing(path) as log_file, replacing(truth_path(path)) as truth_file:
        # One thread writes while this one draws: both spend their time outside the interpreter lock.
        with concurrent.futures.ThreadPoolExecutor(1) as writer, open(log_file, "wb") as file:
            writing: concurrent.futures.Future = writer.submit(int)
            for users, events in draw_events(log, lengths, seed):
                writing.result()  # at most one chunk waits to be written
                writing = writer.submit(_write_csv, file, user_ids[users], lengths[users], events)
                threads.append(events.thread)
                mechanisms.append(events.mechanism)
                interests.append(events.interests)
                causes.append(
                    target_causes(users.start, lengths[users], events.thread, truth_targets)
                )
                progress(len(events.item))
            writing.result()
        category, strength, slope = (np.concatenate(part) for part in zip(*interests, strict=True))
        target_user, target_position, cause_count, cause_position = (
            np.concatenate(part) for part in zip(*causes, strict=True)
        )
        truth = Truth(
            user_id=user_ids,
            offsets=csr_offsets(lengths),
            thread=np.concatenate(threads),
            mechanism=np.concatenate(mechanisms),
            interest_category=category,
            interest_strength=strength,
            interest_slope=slope,
            target_user=user_ids[target_user],
            target_position=target_position,
            cause_offsets=csr_offsets(cause_count),
            cause_position=cause_position,
        )
        arrays = {f.name: getattr(truth, f.name) for f in dataclasses.fields(truth)}
        arrays[LOG_FACTS] = _log_facts(log_file)
        with open(truth_file, "wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
    return truth


def _check_own(path: pathlib.Path) -> None:
    """Raises ValueError where the log or its truth would replace files that are no earlier ones."""
    truth = truth_path(path)
    existing = [place for place in (path, truth) if os.path.lexists(place)]
    if not existing:
        return
    try:
        with np.load(truth, allow_pickle=False) as arrays:
            is_own = len(existing) == 2 and np.array_equal(arrays[LOG_FACTS], _log_facts(path))
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile):
        is_own = False
    if not is_own:
        raise ValueError(
            f"{existing[0]} exists and is not a synthetic log as it was written, with its truth beside it; "
            "move it away, or give another place for the output."
        )


def _log_facts(path: pathlib.Path) -> np.ndarray:
    """Size and CRC-32C of a log, by which its truth tells it from other files, [2]."""
    facts = file_facts(path)
    return np.array([facts["bytes"], facts["crc32c"]], np.int64)


def _write_csv(file, user_id: np.ndarray, lengths: np.ndarray, events: Events) -> None:
    """Appends a chunk to the open log."""
    behavior = pa.DictionaryArray.from_arrays(pa.array(events.behavior), pa.array(BEHAVIORS))
    table = pa.table(
        {
            "user": np.repeat(user_id, lengths),
            "item": events.item,
            "category": events.category,
            "behavior": behavior.cast(pa.string()),
            "timestamp": events.timestamp,
        }
    )
    options = pyarrow.csv.WriteOptions(
        include_header=False, quoting_style="none", batch_size=1 << 14
    )
    pyarrow.csv.write_csv(table, file, options)


def _in_string_order(users: int) -> np.ndarray:
    """The ids 1 to `users` in the order of their decimal strings: 1, 10, 100, 11, ..."""
    # Padding with zeros to one width makes numbers sort as strings; shorter ones first.
    ids = np.arange(1, users + 1)
    digits = np.floor(np.log10(ids) + 1e-12).astype(np.int64)
    widest = int(digits[-1]) if users else 0
    return ids[np.lexsort((digits, ids * 10 ** (widest - digits)))]
