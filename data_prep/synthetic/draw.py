"""Draws the events of a synthetic log with their causes, a chunk of whole users at a time."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from data_prep.synthetic.config import BUY, CART, FAV, SyntheticLog
from data_prep.synthetic.returns import draw_cycles, draw_returns
from data_prep.synthetic.sampling import csr_offsets, draw_items, draw_topics
from data_prep.synthetic.slots import Slots, draw_slots
from data_prep.synthetic.stories import draw_stories
from data_prep.synthetic.truth import FUNNEL, INTEREST, LONE, REPEAT, RETURN, STORY

_CHUNK_EVENTS = 1 << 17  # small enough to stay in the cache


@dataclasses.dataclass(frozen=True)
class Events:
    """Events of some whole users, in the log's order, with their causes.

    Attributes:
      item, category: public ids from 1, [events].
      behavior: index into `BEHAVIORS`, [events].
      timestamp: seconds, [events].
      thread: number of the event's thread within its user: interests count from 0, cycles follow and
        then dormant interests and stories; a lone click at position p and its returns have -1 - p,
        [events].
      mechanism: index into `MECHANISMS`, [events].
      interests: (category [users, interests], strength, slope), category 0 where unused.
    """

    item: np.ndarray
    category: np.ndarray
    behavior: np.ndarray
    timestamp: np.ndarray
    thread: np.ndarray
    mechanism: np.ndarray
    interests: tuple[np.ndarray, np.ndarray, np.ndarray]


def draw_events(
    log: SyntheticLog, lengths: np.ndarray, seed: int
) -> Iterator[tuple[slice, Events]]:
    """Draws the events of all users, a chunk of whole users at a time.

    Args:
      log: the generative model.
      lengths: events of each user, [users].
      seed: as in `write_log`; chunk n has a generator of its own.

    Yields:
      The chunk's users, and their events.
    """
    # Public ids are shuffled, so that they say nothing about topics or popularity.
    rng = np.random.default_rng([seed, 1])
    public_items = rng.permutation(log.catalogue.items).astype(np.int32) + 1
    public_categories = rng.permutation(log.catalogue.categories).astype(np.int32) + 1
    chunk_of_user = csr_offsets(lengths)[:-1] // _CHUNK_EVENTS
    starts = np.flatnonzero(np.diff(chunk_of_user, prepend=-1, append=-1)).tolist()
    for chunk, (start, stop) in enumerate(zip(starts[:-1], starts[1:], strict=True)):
        users = slice(start, stop)
        events = _draw_chunk(log, lengths[users], np.random.default_rng([seed, 2, chunk]))
        topic, interest_topic = events.category, events.interests[0]
        per_category = log.catalogue.topics_per_category
        interest_category = np.where(
            interest_topic < 0, 0, public_categories[interest_topic // per_category]
        )
        public = dataclasses.replace(
            events,
            item=public_items[events.item],
            category=public_categories[topic // per_category],
            interests=(interest_category.astype(np.int32), *events.interests[1:]),
        )
        yield users, public


def _draw_chunk(log: SyntheticLog, lengths: np.ndarray, rng: np.random.Generator) -> Events:
    """Events of a chunk's users, with inner item numbers, and topics in place of categories."""
    slots = draw_slots(log, lengths, rng)
    rows = np.arange(len(slots.user))
    cycle_row, cycle_thread, cycle_topic, cycle_rank = draw_cycles(log, slots, rng)
    cycle_buy = cycle_row + 1
    occupied_rows = np.zeros(len(rows), bool)
    occupied_rows[cycle_row] = occupied_rows[cycle_buy] = True
    return_row, return_thread, return_topic = draw_returns(log, slots, occupied_rows, rng)
    occupied_rows[return_row] = True
    story_row, story = draw_stories(log, slots, occupied_rows, rng)

    # Every other slot is a plain click, or a cart, favorite or purchase that returns to one.
    purchases = log.purchases
    draw = rng.random(len(rows), dtype=np.float32)
    considers = draw < purchases.consider_share
    buys = (draw >= 1.0 - purchases.buy_share) & ~considers
    for slot in (cycle_row, cycle_buy, return_row, story_row, slots.first):
        considers[slot] = buys[slot] = False
    clicks = ~(considers | buys)
    clicks[cycle_row] = clicks[cycle_buy] = False

    # A return goes back to the latest click that is at least a few events old.
    latest_click = _latest(clicks)
    back = 1 + (rng.standard_exponential(len(rows), dtype=np.float32) * 1.5).astype(np.int64)
    source = np.where(clicks, rows, latest_click[np.maximum(rows - back, slots.first)])
    # A purchase completes the latest cart or favorite; without an open one it opens one itself.
    latest_consider, latest_buy = _latest(considers), _latest(buys)
    before = np.maximum(rows - 1, 0)
    completes = buys & (latest_consider[before] > np.maximum(latest_buy[before], slots.first))
    source[completes] = source[latest_consider[before][completes]]
    considers |= buys & ~completes
    source[cycle_row], source[cycle_buy] = cycle_row, cycle_row

    interests, thread, topic = _draw_interests(log, slots, rng)
    lone = rng.random(len(rows), dtype=np.float32) < log.taste.lone_share
    lone[return_row] = lone[story_row] = False
    # Negative and distinct, so that no lone click shares a thread.
    thread[lone] = -1 - slots.position[lone]
    lone_rows = np.flatnonzero(lone)
    topic[lone_rows] = draw_topics(log.catalogue, len(lone_rows), rng, consumable=None)
    thread[cycle_row], topic[cycle_row] = cycle_thread, cycle_topic
    thread[return_row], topic[return_row] = return_thread, return_topic
    thread[story_row], topic[story_row] = story.thread, story.topic
    item_draw = rng.random(len(rows))
    item_draw[cycle_row] = cycle_rank  # one draw a cycle: always the same item
    item_draw[story_row] = story.rank
    item = draw_items(log.catalogue, topic, item_draw)

    behavior = np.zeros(len(rows), np.int8)
    behavior[considers] = np.where(rng.random(int(considers.sum())) < 1 / 3, FAV, CART)
    behavior[completes] = BUY
    behavior[cycle_buy] = BUY
    behavior[story_row] = story.behavior
    mechanism = np.where(lone, LONE, INTEREST).astype(np.int8)
    mechanism[return_row], mechanism[story_row] = RETURN, STORY
    mechanism[considers | completes] = FUNNEL
    mechanism[cycle_row] = mechanism[cycle_buy] = REPEAT
    return Events(
        item=item[source],
        category=topic[source],
        behavior=behavior,
        timestamp=slots.timestamp,
        thread=thread[source].astype(np.int32),
        mechanism=mechanism,
        interests=interests,
    )


def _draw_interests(
    log: SyntheticLog, slots: Slots, rng: np.random.Generator
) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], np.ndarray, np.ndarray]:
    """Plants interests and follows them: ((topic, strength, slope), thread and topic of each event).

    An interest is drawn where a run begins and followed until the next one begins.
    """
    taste, users = log.taste, len(slots.lengths)
    fewest, most = taste.interests
    in_use = np.arange(most) < rng.integers(fewest, most + 1, size=(users, 1))
    topic = draw_topics(log.catalogue, users * most, rng, consumable=False).reshape(users, most)
    while len(again := np.argwhere(_repeats(topic))):  # a user's interests are distinct
        topic[tuple(again.T)] = draw_topics(log.catalogue, len(again), rng, consumable=False)
    strength = np.where(in_use, np.exp(taste.strength_spread * rng.normal(size=in_use.shape)), 0.0)
    slope = rng.uniform(-1.0, 1.0, size=in_use.shape)

    begins = rng.random(len(slots.user), dtype=np.float32) < 1.0 / taste.run_length
    begins[slots.first] = True
    run = np.flatnonzero(begins)
    owner = slots.user[run]
    span = np.maximum(slots.closing - slots.opening, 1)
    tau = (slots.timestamp[run] - slots.opening[owner]) / span[owner]
    weight = strength[owner] * np.exp(taste.drift * slope[owner] * (tau - 0.5)[:, None])
    # One categorical draw a run, by the running sum of the weights: [runs, interests].
    cumulative = np.cumsum(weight, axis=1)
    interest = (cumulative < rng.random((len(run), 1)) * cumulative[:, -1:]).sum(axis=1)
    thread = interest[np.cumsum(begins) - 1]
    interests = (
        np.where(in_use, topic, -1),
        strength.astype(np.float32),
        np.where(in_use, slope, 0.0).astype(np.float32),
    )
    return interests, thread, topic[slots.user, thread]


def _latest(flag: np.ndarray) -> np.ndarray:
    """Row of the latest True at or before each row; -1 before the first."""
    return np.maximum.accumulate(np.where(flag, np.arange(len(flag)), -1))


def _repeats(topic: np.ndarray) -> np.ndarray:
    """True where a user's topic occurs among that user's earlier ones, [users, interests]."""
    same = topic[:, :, None] == topic[:, None, :]
    return np.any(np.tril(same, k=-1), axis=2)
