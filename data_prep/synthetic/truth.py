"""The causes of every event of a synthetic log, and the file that holds them."""

import dataclasses
import os
import pathlib

import numpy as np

from data_prep.synthetic.sampling import csr_offsets
from dgin_tf.integrity import damage_in, load_arrays

LOG_FACTS = "log_facts"  # array of the truth file: size and CRC-32C of the log
TRUTH_SUFFIX = ".truth.npz"
MECHANISMS = ("lone", "interest", "repeat", "funnel", "return", "story")
LONE, INTEREST, REPEAT, FUNNEL, RETURN, STORY = range(6)


@dataclasses.dataclass(frozen=True)
class Truth:
    """Threads and causes of the events of a synthetic log.

    Attributes:
      user_id: users in the log's order, [users].
      offsets: user n's events are rows offsets[n] to offsets[n + 1] of the log, [users + 1].
      thread, mechanism: of every event, [events].
      interest_category, interest_strength, interest_slope: of the planted interests, [users, interests].
      target_user, target_position: the last `truth_targets` events of each user, [targets].
      cause_offsets, cause_position: their causes, CSR by target, [targets + 1] and [causes].
    """

    user_id: np.ndarray
    offsets: np.ndarray
    thread: np.ndarray
    mechanism: np.ndarray
    interest_category: np.ndarray
    interest_strength: np.ndarray
    interest_slope: np.ndarray
    target_user: np.ndarray
    target_position: np.ndarray
    cause_offsets: np.ndarray
    cause_position: np.ndarray

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Truth":
        """Reads the truth file of a log, given the truth file's or the log's path.

        Raises:
          FileNotFoundError: there is no such file.
          ValueError: the file is not a truth file.
        """
        path = pathlib.Path(path)
        path = path if path.name.endswith(TRUTH_SUFFIX) else truth_path(path)
        if not path.is_file():
            raise FileNotFoundError(
                f"expected the truth of a synthetic log at {os.fspath(path)!r}, found no file; write "
                "the log with python -m data_prep.synthetic, which writes its truth beside it."
            )
        advice = "write the log again with python -m data_prep.synthetic"
        description = "the truth of a synthetic log"
        arrays = load_arrays(path, description, advice)
        with damage_in(path, description, advice):
            return cls(**{field.name: arrays[field.name] for field in dataclasses.fields(cls)})

    def events(self, user_id: int) -> slice:
        """Rows of the log that are `user_id`'s; raises KeyError for a user that it has not."""
        (rank,) = np.nonzero(self.user_id == int(user_id))
        if not len(rank):
            raise KeyError(f"the synthetic log has no user {user_id}.")
        return slice(int(self.offsets[rank[0]]), int(self.offsets[rank[0] + 1]))

    def causes(self, user_id: int, position: int) -> np.ndarray:
        """Positions of the earlier events that caused the user's event at `position`, ascending.

        Empty for noise, and for the event that opens an interest or a cycle.
        """
        threads = self.thread[self.events(user_id)]
        if not 0 <= position < len(threads):
            raise IndexError(
                f"user {user_id} has {len(threads)} events; there is none at position {position}."
            )
        return np.flatnonzero(threads[:position] == threads[position])


def truth_path(path: str | os.PathLike) -> pathlib.Path:
    """Path of the truth file of the log at `path`."""
    path = pathlib.Path(path)
    return path.with_name(path.name + TRUTH_SUFFIX)


def target_causes(
    first_user: int, lengths: np.ndarray, thread: np.ndarray, truth_targets: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Causes of the last events of each user of a chunk.

    Args:
      first_user: rank of the chunk's first user.
      lengths: events of each user, [users].
      thread: of each event, [events].
      truth_targets: targets of each user, the last events.

    Returns:
      Target users (ranks), target positions and number of causes, [targets]; positions of the causes,
      [causes].
    """
    starts = csr_offsets(lengths)[:-1]
    position = np.arange(len(thread)) - np.repeat(starts, lengths)
    targets, causes = [], []
    for lag in range(truth_targets, 0, -1):
        user = np.flatnonzero(lengths >= lag)
        place = lengths[user] - lag
        # [users]: thread and position of each user's target at this lag.
        target_thread, limit = np.zeros((2, len(lengths)), np.int64)
        target_thread[user], limit[user] = thread[starts[user] + place], place
        is_cause = thread == np.repeat(target_thread, lengths)
        is_cause &= position < np.repeat(limit, lengths)
        hits = np.flatnonzero(is_cause)
        owner = np.searchsorted(starts, hits, side="right") - 1
        targets.append(np.stack([user, place]))
        causes.append(np.stack([owner, limit[owner], position[hits]]))
    target = np.concatenate(targets or [np.zeros((2, 0), np.int64)], axis=1)
    cause = np.concatenate(causes or [np.zeros((3, 0), np.int64)], axis=1)
    user, place = target[:, np.lexsort((target[1], target[0]))]
    owner, limit, position = cause[:, np.lexsort((cause[2], cause[1], cause[0]))]
    # Targets and causes are now in the same order: count the causes between neighboring targets.
    stride = int(lengths.max(initial=0)) + 1
    counts = np.searchsorted(owner * stride + limit, user * stride + place, side="right")
    counts = np.diff(counts, prepend=0)
    return first_user + user, place.astype(np.int32), counts, position.astype(np.int32)
