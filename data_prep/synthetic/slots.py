"""Users and times of a chunk's events, drawn before anything else about them."""

import dataclasses
import math

import numpy as np

from data_prep.synthetic.config import SPAN_MARGIN, Population, SyntheticLog
from data_prep.synthetic.sampling import csr_offsets

_SESSION_EVENTS = 5.0  # events a session, on average
_SESSION_GAP = 200.0  # gap between sessions over gap within one


@dataclasses.dataclass(frozen=True)
class Slots:
    """Rows of some whole users, each user's in time order.

    Attributes:
      lengths: events of each user, [users].
      user: user of each event, counted within the chunk, [events].
      first: row of the first event of each event's user, [events].
      timestamp: seconds, [events].
      window: the log's.
    """

    lengths: np.ndarray
    user: np.ndarray
    first: np.ndarray
    timestamp: np.ndarray
    window: tuple[int, int]

    @property
    def position(self) -> np.ndarray:
        return np.arange(len(self.user)) - self.first

    @property
    def last_row(self) -> np.ndarray:
        """Row of each user's last event, [users]."""
        return csr_offsets(self.lengths)[1:] - 1

    @property
    def opening(self) -> np.ndarray:
        """Second of each user's first event, [users]."""
        return self.timestamp[self.first[self.last_row]]

    @property
    def closing(self) -> np.ndarray:
        """Second of each user's last event, [users]."""
        return self.timestamp[self.last_row]

    def rows_at(self, user: np.ndarray, second: np.ndarray) -> np.ndarray:
        """First row of `user` at or after `second`, each [times]; the next user's first row if none is."""
        # All users are searched at once: the times of each are shifted past those of the user before.
        start, end = self.window
        clock = self.user * (end - start) + (self.timestamp - start)
        return np.searchsorted(clock, user * (end - start) + (second - start))


def history_lengths(population: Population, rng: np.random.Generator) -> np.ndarray:
    """Draws each user's number of events, [users]; the sum is exactly `population.events`."""
    low, high, users = population.shortest, population.longest, population.users
    normal = population.spread * rng.standard_normal(users)
    # One shortest and one longest history must leave the other users enough events, and not too many.
    rest = population.events - low - high
    if users > 2 and (users - 2) * low <= rest <= (users - 2) * high:
        normal[np.argmax(normal)], normal[np.argmin(normal)] = np.inf, -np.inf

    def lengths_at(shift: float) -> np.ndarray:
        return np.clip(np.round(np.exp(np.clip(normal + shift, -50, 50))), low, high).astype(int)

    below, above = math.log(low) - 50.0, math.log(high) + 50.0
    for _ in range(60):  # bisection: the total rises with the shift
        middle = 0.5 * (below + above)
        if lengths_at(middle).sum() <= population.events:
            below = middle
        else:
            above = middle
    lengths = lengths_at(below)
    while missing := population.events - int(lengths.sum()):  # remainder of the rounding
        open_users = np.flatnonzero((lengths < high) & np.isfinite(normal))
        if not len(open_users):
            open_users = np.flatnonzero(lengths < high)
        lengths[open_users[:missing]] += 1
    return lengths


def draw_slots(log: SyntheticLog, lengths: np.ndarray, rng: np.random.Generator) -> Slots:
    """Times of all events: sessions, stretched over the user's part of the window."""
    starts = csr_offsets(lengths)
    user = np.repeat(np.arange(len(lengths)), lengths)
    first = starts[:-1][user]
    # [events]; between sessions gaps are longer.
    gap = rng.standard_exponential(len(user))
    gap[rng.random(len(user), dtype=np.float32) < 1 / _SESSION_EVENTS] *= _SESSION_GAP
    clock = np.cumsum(gap)
    start, end = log.window
    arrival, departure = rng.random((2, len(lengths))) * SPAN_MARGIN * (end - start)
    # One second of each event is set aside, so that rounding can never make two coincide.
    seconds = end - start - arrival - departure - lengths
    # Stretches each user's clock over the rest of the user's time, [users].
    scale = seconds / np.maximum(clock[starts[1:] - 1] - clock[starts[:-1]], 1e-9)
    offset = start + arrival - clock[starts[:-1]] * scale
    timestamp = np.floor(clock * scale[user] + offset[user]).astype(np.int64)
    return Slots(lengths, user, first, timestamp + np.arange(len(user)) - first, log.window)
