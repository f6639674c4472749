"""Threads that come back after a long time: cycles of consumables and dormant interests."""

import math

import numpy as np

from data_prep.synthetic.config import SyntheticLog
from data_prep.synthetic.sampling import draw_topics, group_members
from data_prep.synthetic.slots import Slots

PERIOD_JITTER = 0.05  # deviation of a return, in periods
_EVENTS_PER_CYCLE = 6.0  # a cycle returns no sooner than this many events later, on average
_GOLDEN_RATIO = 0.5 * (math.sqrt(5.0) - 1.0)  # its multiples fill [0, 1) evenly


def draw_cycles(
    log: SyntheticLog, slots: Slots, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Views that open each round of a repeat purchase: row, thread, topic and item draw of each.

    The purchase is the next row. Rounds that would fall on the same or neighboring events, on a
    user's first or after a user's last but one give way.
    """
    users, lengths, last_row = len(slots.lengths), slots.lengths, slots.last_row
    rounds = np.minimum(rng.uniform(*log.purchases.cycles, size=users), lengths / _EVENTS_PER_CYCLE)
    mean_staples = log.purchases.repeat_share * lengths / (2.0 * rounds)  # a round is two events
    staples = np.floor(mean_staples + rng.random(users)).astype(np.int64)
    owner, number = group_members(staples)
    topic = draw_topics(log.catalogue, len(owner), rng, consumable=True)
    rank = rng.random(len(owner))
    span = (slots.closing - slots.opening)[owner]
    period = span / rounds[owner] * rng.uniform(0.8, 1.2, size=len(owner))
    phase = rng.random(len(owner))

    # One row for each round: [rounds of all staples].
    staple, turn = group_members(np.ceil(span / period - phase).astype(np.int64))
    turn = turn + phase[staple] + PERIOD_JITTER * rng.standard_normal(len(staple))
    due = slots.opening[owner[staple]] + turn * period[staple]
    row = slots.rows_at(owner[staple], due)
    fits = (row > slots.first[last_row][owner[staple]]) & (row < last_row[owner[staple]])
    # Of rounds that fall on one row the first stays; then neighbors give way.
    row, unique_index = np.unique(row[fits], return_index=True)
    staple = staple[fits][unique_index]
    apart = np.diff(row, prepend=-2) > 1
    row, staple = row[apart], staple[apart]
    return row, log.taste.interests[1] + number[staple], topic[staple], rank[staple]


def draw_returns(
    log: SyntheticLog, slots: Slots, occupied_rows: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Single clicks on dormant interests: row, thread and topic of each."""
    dormancy, lengths = log.dormancy, slots.lengths
    if not dormancy.share:
        return (np.zeros(0, np.int64),) * 3
    fewest, most = dormancy.rounds
    mean_rounds = (most - fewest) / math.log(most / fewest) if most > fewest else most
    interests = np.floor(dormancy.share * lengths / mean_rounds + rng.random(len(lengths)))
    owner, number = group_members(interests.astype(np.int64))
    topic = draw_topics(log.catalogue, len(owner), rng, consumable=False)
    # A property of the topic, even in the logarithm between fewest and most.
    rounds = fewest * (most / fewest) ** (topic * _GOLDEN_RATIO % 1.0)
    period = (slots.closing - slots.opening)[owner] / rounds

    # One row for each visit: [visits of all dormant interests].
    interest, turn = group_members(np.ceil(rounds + 1.0).astype(np.int64))
    phase = rng.random(len(owner))[interest]
    turn = turn + phase + PERIOD_JITTER * rng.standard_normal(len(interest))
    due = slots.opening[owner[interest]] + turn * period[interest]
    in_time = (turn > 0.0) & (due < slots.closing[owner[interest]])
    interest, due = interest[in_time], due[in_time]
    event, row = queue(slots, occupied_rows, owner[interest], due)
    interest = interest[event]
    cycles = int(np.max(lengths))  # more than any user has, so that threads stay apart
    return row, log.taste.interests[1] + cycles + number[interest], topic[interest]


def queue(
    slots: Slots, occupied_rows: np.ndarray, owner: np.ndarray, due: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Gives events that are due the user's next rows, one after the other.

    What is due between two sessions queues up at the next one. Events that meet an occupied row or the
    user's first, or that are still queueing when the user's time is over, are dropped.

    Args:
      slots: the chunk.
      occupied_rows: rows that are not free, bool [rows].
      owner, due: user and second of each event, [events].

    Returns:
      Index and row of each event that has one.
    """
    event = np.lexsort((due, owner))
    owner, due = owner[event], due[event]
    row = slots.rows_at(owner, due)
    # Rows of a queue rise by at least one from event to event.
    place = np.arange(len(row))
    row = np.maximum.accumulate(row - place) + place
    fits = row <= slots.last_row[owner]
    event, row = event[fits], row[fits]
    free = ~occupied_rows[row] & (row > slots.first[row])
    return event[free], row[free]
