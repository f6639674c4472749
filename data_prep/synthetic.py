"""Writes a log in Taobao's own layout in which the cause of every click is known.

Real logs never say why somebody clicked, so on them nobody can tell whether attention looks at the
right events. This log is drawn from a small generative model, and a side file keeps what was drawn.

    python -m data_prep.synthetic --output=/tmp/log.csv --preset=quickstart --seed=7

The log: one line an event, `user,item,category,behavior,timestamp`, no header, behaviors `pv`,
`buy`, `cart`, `fav`, users in blocks in string order (as the Tianchi file has them), each user's
timestamps strictly rising, so that (user, timestamp) names an event wherever it is joined later.

The generative model
--------------------
*Catalogue.* Items are dealt evenly over `categories` x `topics_per_category` topics; an item's share
of its topic's clicks falls with its rank as a power law (Zipf), and so does a topic's share of all
interest. A fixed share of the categories are consumables: bought in cycles, never browsed.

*Lengths.* Log-normal with spread `spread`, clipped to [shortest, longest], shifted so that the total
is exactly `events`; one user has exactly the shortest and one exactly the longest history.

*Time.* A user's events come in sessions: gaps are exponential, 200 times longer between sessions.

*Threads.* Every event belongs to exactly one thread of its user, and **the causes of an event are the
earlier events of its thread**: had they not happened, neither would it. Threads are of five kinds:

- a planted **interest** k, one of the user's few browsing topics. The events between switches (a run
  of `run_length` events on average) follow one interest, drawn with probability proportional to
  strength_k exp(drift slope_k (tau - 1/2)), slope_k ~ U(-1, 1), where tau in [0, 1] is how far the
  user's time has come: interests rise and fade. The item is a Zipf draw within the topic;
- a **cycle**: one consumable item, looked at and bought again each time its period has passed, at the
  user's first event after it is due. The period is the user's time divided by a draw from `cycles`,
  so the cause of a repeat lies deep in the history;
- a **dormant interest** (where `dormancy` has a share): a topic that the user comes back to for one
  click each time the topic's period has passed, and leaves alone in between. The item is a Zipf draw
  within the topic. The period is a property of the topic (the user's time divided by between the
  fewest and most `rounds`, all sizes equally often in the logarithm), so that the time since the last
  click says whether the topic is due; topics of one category have periods of their own, so that the
  category alone says neither what nor when. The newest events hold none of the causes;
- a **story** of one item (where `stories` has a share), told by the kinds of its events. It is looked
  at once or a few times in a row, and what follows depends on its fate: nothing (`look`); `cart`: it
  is carted and comes back soon and often, and now and then is bought, which ends it; `fav`: it comes
  back late and seldom; `buy`: it is bought and never seen again. A consumable is bought at once, and
  looked at and bought again each time its period has passed. So whether an item that somebody has met
  is clicked again is told by the kinds of events in its own history and by the time since, much less
  by their number, and its category only says whether it is consumable;
- a **lone click** on a Zipf item of a Zipf topic, whatever the user likes: noise, without a cause.

*Funnel.* Interest and lone clicks are `pv`; a share of the events return to an item seen shortly
before, `cart` or `fav` first, `buy` only after that, and join the thread of the click they return to.
In a cycle the `buy` follows its `pv` at once.

Why attention can find the causes: the threads of one user have different topics, so the category
embedding (and, through co-occurrence, the item embedding) tells the threads apart, and a candidate
drawn at random from the catalogue is rarely in one. A click of an interest is best predicted from the
events of that interest alone, which are only a fifth of the history or so.

The truth file
--------------
`<output>.truth.npz`, read by `Truth.load`: `thread` and `mechanism` of every event of the log, in the
log's order, with `user_id` and `offsets` (CSR by user); the planted `interest_category`,
`interest_strength`, `interest_slope` [users, interests] (category 0: unused); and, ready made for each
user's last `labeled` events, `target_user`, `target_position`, `cause_offsets`, `cause_position`
(CSR by target; positions count a user's events from 0).

Same parameters and seed, same bytes. 20 million rows take seconds; memory is one chunk of about a
million events plus five bytes an event for the truth.
"""

import concurrent.futures
import contextlib
import dataclasses
import functools
import math
import os
import pathlib
from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.csv
from absl import flags
from tqdm import tqdm

from dgin_tf.commands import command_line

BEHAVIORS = ("pv", "buy", "cart", "fav")
PV, BUY, CART, FAV = range(4)

MECHANISMS = ("lone", "interest", "repeat", "funnel", "return", "story")
LONE, INTEREST, REPEAT, FUNNEL, RETURN, STORY = range(6)

TRUTH_SUFFIX = ".truth.npz"

# Taobao's official window, 25 November to 3 December 2017, Beijing time.
WINDOW_START = 1_511_539_200
WINDOW_END = 1_512_316_800

_CHUNK_EVENTS = 1 << 17  # small enough to stay in the cache
_SESSION_EVENTS = 5.0  # events a session, on average
_SESSION_GAP = 200.0  # gap between sessions over gap within one
_EVENTS_PER_CYCLE = 6.0  # a cycle returns no sooner than this many events later, on average
_PERIOD_JITTER = 0.05  # deviation of a return, in periods
_BETWEEN_LOOKS = 0.002  # time between the first looks at an item, in the user's time, on average
_GOLDEN_RATIO = 0.5 * (math.sqrt(5.0) - 1.0)  # its multiples fill [0, 1) evenly
_SPAN_MARGIN = 0.1  # users come within the first tenth of the window and leave within the last


@dataclasses.dataclass(frozen=True)
class Population:
    """Who there is: `users` people with `events` events in all.

    `shortest` and `longest` bound the histories; `spread` is the deviation of log length.
    """

    users: int
    events: int
    shortest: int = 10
    longest: int = 54_000
    spread: float = 1.0


@dataclasses.dataclass(frozen=True)
class Catalogue:
    """What there is: `items` in `categories`, each of `topics_per_category` topics.

    `consumable_share` of the categories are bought in cycles; `item_zipf` and `topic_zipf` are the
    exponents of popularity of an item within its topic and of a topic.
    """

    items: int
    categories: int
    topics_per_category: int = 1
    consumable_share: float = 0.2
    item_zipf: float = 0.8
    topic_zipf: float = 0.4


@dataclasses.dataclass(frozen=True)
class Taste:
    """What people like: fewest and most `interests` of a user, and how these are followed.

    `strength_spread` is the deviation of log strength, `drift` how fast interests rise and fade,
    `run_length` the mean number of events between two choices of an interest, `lone_share` the
    share of clicks that no interest explains.
    """

    interests: tuple[int, int] = (3, 6)
    strength_spread: float = 0.5
    drift: float = 4.0
    run_length: float = 2.0
    lone_share: float = 0.15


@dataclasses.dataclass(frozen=True)
class Purchases:
    """What people buy: shares of all events, and how often a cycle comes round.

    `consider_share` are carts and favorites, `buy_share` purchases that follow these,
    `repeat_share` events of cycles (half of them views, half purchases), `cycles` the fewest and
    most rounds of a cycle in a user's time.
    """

    consider_share: float = 0.07
    buy_share: float = 0.015
    repeat_share: float = 0.06
    cycles: tuple[float, float] = (4.0, 8.0)


@dataclasses.dataclass(frozen=True)
class Dormancy:
    """What people come back to after a long time: the `share` of all events that are such returns.

    `rounds` are the fewest and most returns to a topic in a user's time.
    """

    share: float = 0.0
    rounds: tuple[float, float] = (2.5, 8.0)


@dataclasses.dataclass(frozen=True)
class Fate:
    """What becomes of an item that was looked at.

    `chance` that it is this one; `mark`: the kind of event that follows the first looks, if any;
    `looks`: mean number of looks before it; `returns`: mean number of clicks after it; `gap`: mean
    time to each of them, in the user's time; `sold`: chance that a purchase ends it.
    """

    chance: float
    mark: int | None = None
    looks: float = 1.5
    returns: float = 0.0
    gap: float = 0.0
    sold: float = 0.0


FATES = (
    Fate(chance=0.45, looks=2.5),
    Fate(chance=0.2, mark=CART, returns=4.0, gap=0.03, sold=0.4),
    Fate(chance=0.15, mark=FAV, returns=3.0, gap=0.12),
    Fate(chance=0.2, mark=BUY, looks=2.5),
)


@dataclasses.dataclass(frozen=True)
class Stories:
    """What people do with single items: the `share` of all events, and what becomes of items.

    `consumable` is the share of stories whose item is bought again each time its period has passed,
    `rounds` the fewest and most purchases of one in a user's time; `fates` are those of the others.
    """

    share: float = 0.0
    consumable: float = 0.15
    rounds: tuple[float, float] = (4.0, 8.0)
    fates: tuple[Fate, ...] = FATES


@dataclasses.dataclass(frozen=True)
class SyntheticLog:
    """The generative model with all its parameters; the module's docstring says how they act.

    Attributes:
      population, catalogue, taste, purchases, dormancy, stories: its six parts.
      window: first second, and first second after the last, of the log.
    """

    population: Population
    catalogue: Catalogue
    taste: Taste = Taste()
    purchases: Purchases = Purchases()
    dormancy: Dormancy = Dormancy()
    stories: Stories = Stories()
    window: tuple[int, int] = (WINDOW_START, WINDOW_END)

    def __post_init__(self):
        for part, expected, holds in _requirements(self):
            if not holds:
                raise ValueError(f"a synthetic log needs {expected}; got {part}.")


@dataclasses.dataclass(frozen=True)
class Events:
    """Events of some whole users, in the log's order, with their causes.

    Attributes:
      item, category: public ids from 1, [events].
      behavior: index into `BEHAVIORS`, [events].
      timestamp: seconds, [events].
      thread: number of the event's thread within its user: interests count from 0, cycles follow
        and then dormant interests and stories, a lone click at position p and what returns to it have -1 - p. [events].
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


@dataclasses.dataclass(frozen=True)
class Truth:
    """Why each event of a synthetic log happened.

    Attributes:
      user_id: users in the log's order, [users].
      offsets: user n's events are rows offsets[n] to offsets[n + 1] of the log, [users + 1].
      thread, mechanism: of every event, [events].
      interest_category, interest_strength, interest_slope: what was planted, [users, interests].
      target_user, target_position: the last `labeled` events of each user, [targets].
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
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return cls(**{field.name: arrays[field.name] for field in dataclasses.fields(cls)})
        except (KeyError, OSError, ValueError) as error:
            raise ValueError(
                f"expected the truth of a synthetic log in {os.fspath(path)!r}; got {error}."
            ) from error

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
    """Where the truth of the log at `path` is kept."""
    path = pathlib.Path(path)
    return path.with_name(path.name + TRUTH_SUFFIX)


def write_log(
    log: SyntheticLog,
    path: str | os.PathLike,
    seed: int,
    labeled: int = 1,
    progress: Callable[[int], object] = lambda events: None,
) -> Truth:
    """Writes the log to `path` and its truth to `truth_path(path)`, both whole or not at all.

    Args:
      log: the generative model.
      path: the CSV file; replaced where it exists, its folder made where it does not.
      seed: non-negative; the same seed gives the same bytes.
      labeled: how many of each user's last events get ready-made cause lists in the truth file.
      progress: called with the number of events each time a chunk has been drawn.

    Returns:
      The truth, as `Truth.load` would read it.

    Raises:
      ValueError: `seed` or `labeled` is negative.
      OSError: the files cannot be written; nothing is left behind.
    """
    if seed < 0 or labeled < 0:
        raise ValueError(
            f"seed and labeled must be non-negative; got seed {seed}, labeled {labeled}."
        )
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    lengths = history_lengths(log.population, np.random.default_rng([seed, 0]))
    user_ids = _in_string_order(log.population.users)
    threads, mechanisms, interests, causes = [], [], [], []
    with _replacing(pathlib.Path(path)) as log_file, _replacing(truth_path(path)) as truth_file:
        # One thread writes while this one draws: both spend their time outside the interpreter lock.
        with concurrent.futures.ThreadPoolExecutor(1) as writer, open(log_file, "wb") as file:
            written: concurrent.futures.Future = writer.submit(int)
            for users, events in draw_events(log, lengths, seed):
                written.result()
                written = writer.submit(_write_csv, file, user_ids[users], lengths[users], events)
                threads.append(events.thread)
                mechanisms.append(events.mechanism)
                interests.append(events.interests)
                causes.append(_label(users.start, lengths[users], events.thread, labeled))
                progress(len(events.item))
            written.result()
        category, strength, slope = (np.concatenate(part) for part in zip(*interests, strict=True))
        target_user, target_position, cause_count, cause_position = (
            np.concatenate(part) for part in zip(*causes, strict=True)
        )
        truth = Truth(
            user_id=user_ids,
            offsets=_offsets(lengths),
            thread=np.concatenate(threads),
            mechanism=np.concatenate(mechanisms),
            interest_category=category,
            interest_strength=strength,
            interest_slope=slope,
            target_user=user_ids[target_user],
            target_position=target_position,
            cause_offsets=_offsets(cause_count),
            cause_position=cause_position,
        )
        with open(truth_file, "wb") as file:
            np.savez(file, **{f.name: getattr(truth, f.name) for f in dataclasses.fields(truth)})
    return truth


def history_lengths(population: Population, rng: np.random.Generator) -> np.ndarray:
    """Draws each user's number of events, [users]; the sum is exactly `population.events`."""
    low, high, users = population.shortest, population.longest, population.users
    normal = population.spread * rng.standard_normal(users)
    if _pins_extremes(population):  # so that the limits that are claimed do occur
        normal[np.argmax(normal)], normal[np.argmin(normal)] = np.inf, -np.inf

    def lengths_at(shift: float) -> np.ndarray:
        return np.clip(np.round(np.exp(np.clip(normal + shift, -50, 50))), low, high).astype(int)

    below, above = math.log(low) - 50.0, math.log(high) + 50.0
    for _ in range(60):  # the total rises with the shift
        middle = 0.5 * (below + above)
        if lengths_at(middle).sum() <= population.events:
            below = middle
        else:
            above = middle
    lengths = lengths_at(below)
    while missing := population.events - int(lengths.sum()):  # what rounding left over
        open_users = np.flatnonzero((lengths < high) & np.isfinite(normal))
        if not len(open_users):
            open_users = np.flatnonzero(lengths < high)
        lengths[open_users[:missing]] += 1
    return lengths


def draw_events(
    log: SyntheticLog, lengths: np.ndarray, seed: int
) -> Iterator[tuple[slice, Events]]:
    """Draws the events of all users, a chunk of whole users at a time.

    Args:
      log: the generative model.
      lengths: events of each user, [users].
      seed: as in `write_log`; chunk n has a generator of its own.

    Yields:
      Which users the chunk holds, and their events.
    """
    rng = np.random.default_rng([seed, 1])
    public_items = rng.permutation(log.catalogue.items).astype(np.int32) + 1
    public_categories = rng.permutation(log.catalogue.categories).astype(np.int32) + 1
    chunk_of_user = (_offsets(lengths)[:-1]) // _CHUNK_EVENTS
    edges = np.flatnonzero(np.diff(chunk_of_user, prepend=-1, append=-1))
    for chunk, (start, stop) in enumerate(
        zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)
    ):
        users = slice(start, stop)
        drawn = _draw_chunk(log, lengths[users], np.random.default_rng([seed, 2, chunk]))
        item, topic, interest_topic = drawn.item, drawn.category, drawn.interests[0]
        per_category = log.catalogue.topics_per_category
        interest_category = np.where(
            interest_topic < 0, 0, public_categories[interest_topic // per_category]
        )
        yield (
            users,
            dataclasses.replace(
                drawn,
                item=public_items[item],
                category=public_categories[topic // per_category],
                interests=(interest_category.astype(np.int32), *drawn.interests[1:]),
            ),
        )


@dataclasses.dataclass(frozen=True)
class _Slots:
    """The chunk's events before anything is said of them: whose and when."""

    user: np.ndarray  # rank of the user within the chunk, [events]
    first: np.ndarray  # row of the user's first event, [events]
    timestamp: np.ndarray  # [events]

    @property
    def position(self) -> np.ndarray:
        return np.arange(len(self.user)) - self.first


def _draw_chunk(log: SyntheticLog, lengths: np.ndarray, rng: np.random.Generator) -> Events:
    """Events of a chunk's users, with inner item numbers, and topics in place of categories."""
    slots = _draw_slots(log, lengths, rng)
    rows = np.arange(len(slots.user))
    cycle_row, cycle_thread, cycle_topic, cycle_rank = _draw_cycles(log, slots, lengths, rng)
    cycle_buy = cycle_row + 1
    taken = np.zeros(len(rows), bool)
    taken[cycle_row] = taken[cycle_buy] = True
    return_row, return_thread, return_topic = _draw_returns(log, slots, lengths, taken, rng)
    taken[return_row] = True
    story_row, story = _draw_stories(log, slots, lengths, taken, rng)

    # Which slots are plain clicks, which return to one, which belong to a cycle.
    purchases = log.purchases
    kind = rng.random(len(rows), dtype=np.float32)
    considers = kind < purchases.consider_share
    buys = (kind >= 1.0 - purchases.buy_share) & ~considers
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

    interests, thread, topic = _draw_interests(log, slots, lengths, rng)
    lone = rng.random(len(rows), dtype=np.float32) < log.taste.lone_share
    lone[return_row] = lone[story_row] = False
    thread[lone] = -1 - slots.position[lone]
    lone_rows = np.flatnonzero(lone)
    topic[lone_rows] = _draw_topics(log.catalogue, len(lone_rows), rng, consumable=None)
    thread[cycle_row], topic[cycle_row] = cycle_thread, cycle_topic
    thread[return_row], topic[return_row] = return_thread, return_topic
    thread[story_row], topic[story_row] = story.thread, story.topic
    rank_draw = rng.random(len(rows))
    rank_draw[cycle_row] = cycle_rank  # one draw a cycle: always the same item
    rank_draw[story_row] = story.rank
    item = _draw_items(log.catalogue, topic, rank_draw)

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


def _draw_slots(log: SyntheticLog, lengths: np.ndarray, rng: np.random.Generator) -> _Slots:
    """Times of all events: sessions, stretched over the part of the window that the user is there."""
    starts = _offsets(lengths)
    user = np.repeat(np.arange(len(lengths)), lengths)
    first = starts[:-1][user]
    gap = rng.standard_exponential(len(user))
    gap[rng.random(len(user), dtype=np.float32) < 1 / _SESSION_EVENTS] *= _SESSION_GAP
    elapsed = np.cumsum(gap)
    start, end = log.window
    arrival, departure = rng.random((2, len(lengths))) * _SPAN_MARGIN * (end - start)
    # One second of each event is set aside, so that rounding can never make two coincide.
    seconds = end - start - arrival - departure - lengths
    scale = seconds / np.maximum(elapsed[starts[1:] - 1] - elapsed[starts[:-1]], 1e-9)
    offset = start + arrival - elapsed[starts[:-1]] * scale
    timestamp = np.floor(elapsed * scale[user] + offset[user]).astype(np.int64)
    return _Slots(user, first, timestamp + np.arange(len(user)) - first)


def _draw_interests(
    log: SyntheticLog, slots: _Slots, lengths: np.ndarray, rng: np.random.Generator
) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], np.ndarray, np.ndarray]:
    """Plants interests and follows them: ((topic, strength, slope), thread and topic of each event).

    An interest is chosen where a run begins and kept until the next one begins.
    """
    taste, users = log.taste, len(lengths)
    fewest, most = taste.interests
    held = np.arange(most) < rng.integers(fewest, most + 1, size=(users, 1))
    topic = _draw_topics(log.catalogue, users * most, rng, consumable=False).reshape(users, most)
    while len(again := np.argwhere(_repeats(topic))):  # a user's interests are distinct
        topic[tuple(again.T)] = _draw_topics(log.catalogue, len(again), rng, consumable=False)
    strength = np.where(held, np.exp(taste.strength_spread * rng.normal(size=held.shape)), 0.0)
    slope = rng.uniform(-1.0, 1.0, size=held.shape)

    begins = rng.random(len(slots.user), dtype=np.float32) < 1.0 / taste.run_length
    begins[slots.first] = True
    run = np.flatnonzero(begins)
    owner, began = slots.user[run], slots.timestamp[run]
    first_row = _offsets(lengths)
    opening, closing = slots.timestamp[first_row[:-1]], slots.timestamp[first_row[1:] - 1]
    tau = (began - opening[owner]) / np.maximum(closing - opening, 1)[owner]
    weight = strength[owner] * np.exp(taste.drift * slope[owner] * (tau - 0.5)[:, None])
    edge = np.cumsum(weight, axis=1)
    chosen = (edge < rng.random((len(run), 1)) * edge[:, -1:]).sum(axis=1)
    thread = chosen[np.cumsum(begins) - 1]
    planted = (
        np.where(held, topic, -1),
        strength.astype(np.float32),
        np.where(held, slope, 0.0).astype(np.float32),
    )
    return planted, thread, topic[slots.user, thread]


def _draw_cycles(
    log: SyntheticLog, slots: _Slots, lengths: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Views that open each round of a repeat purchase: row, thread, topic and item draw of each.

    The purchase is the next row. Rounds that would fall on the same or neighboring events, on a
    user's first or after a user's last but one give way.
    """
    users = len(lengths)
    last = _offsets(lengths)[1:] - 1
    opening, closing = slots.timestamp[slots.first[last]], slots.timestamp[last]
    rounds = np.minimum(rng.uniform(*log.purchases.cycles, size=users), lengths / _EVENTS_PER_CYCLE)
    wanted = log.purchases.repeat_share * lengths / (2.0 * rounds)  # a round is two events
    staples = np.floor(wanted + rng.random(users)).astype(np.int64)
    owner = np.repeat(np.arange(users), staples)
    number = np.arange(len(owner)) - np.repeat(_offsets(staples)[:-1], staples)
    topic = _draw_topics(log.catalogue, len(owner), rng, consumable=True)
    rank = rng.random(len(owner))
    period = (closing - opening)[owner] / rounds[owner] * rng.uniform(0.8, 1.2, size=len(owner))
    phase = rng.random(len(owner))

    returns = np.ceil((closing - opening)[owner] / period - phase).astype(np.int64)
    staple = np.repeat(np.arange(len(owner)), returns)
    turn = np.arange(len(staple)) - np.repeat(_offsets(returns)[:-1], returns)
    turn = turn + phase[staple] + _PERIOD_JITTER * rng.standard_normal(len(staple))
    due = opening[owner[staple]] + turn * period[staple]
    # Rows are found for all users at once: a user's times are shifted past the user before.
    window = log.window[1] - log.window[0]
    clock = slots.user * window + (slots.timestamp - log.window[0])
    row = np.searchsorted(clock, owner[staple] * window + (due - log.window[0]))
    fits = (row > slots.first[last][owner[staple]]) & (row < last[owner[staple]])
    row, kept = np.unique(row[fits], return_index=True)
    staple = staple[fits][kept]
    apart = np.diff(row, prepend=-2) > 1
    row, staple = row[apart], staple[apart]
    return row, log.taste.interests[1] + number[staple], topic[staple], rank[staple]


def _draw_returns(
    log: SyntheticLog,
    slots: _Slots,
    lengths: np.ndarray,
    taken: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Single clicks on dormant interests: row, thread and topic of each."""
    dormancy, users = log.dormancy, len(lengths)
    if not dormancy.share:
        return (np.zeros(0, np.int64),) * 3
    fewest, most = dormancy.rounds
    mean_rounds = (most - fewest) / math.log(most / fewest) if most > fewest else most
    held = np.floor(dormancy.share * lengths / mean_rounds + rng.random(users)).astype(np.int64)
    owner = np.repeat(np.arange(users), held)
    number = np.arange(len(owner)) - np.repeat(_offsets(held)[:-1], held)
    topic = _draw_topics(log.catalogue, len(owner), rng, consumable=False)
    rounds = fewest * (most / fewest) ** (topic * _GOLDEN_RATIO % 1.0)
    last = _offsets(lengths)[1:] - 1
    opening, closing = slots.timestamp[slots.first[last]], slots.timestamp[last]
    period = (closing - opening)[owner] / rounds

    visits = np.ceil(rounds + 1.0).astype(np.int64)
    of = np.repeat(np.arange(len(owner)), visits)
    turn = np.arange(len(of)) - np.repeat(_offsets(visits)[:-1], visits)
    turn = turn + rng.random(len(owner))[of] + _PERIOD_JITTER * rng.standard_normal(len(of))
    due = opening[owner[of]] + turn * period[of]
    known = (turn > 0.0) & (due < closing[owner[of]])
    of, due = of[known], due[known]
    event = np.arange(len(of))
    event, row = _queue(log, slots, lengths, taken, event, owner[of], due)
    of = of[event]
    cycles = int(np.max(lengths))  # more than any user has, so that threads stay apart
    return row, log.taste.interests[1] + cycles + number[of], topic[of]


@dataclasses.dataclass(frozen=True)
class _StoryEvents:
    """What happens in stories: thread, topic, item draw and kind of each event, [events]."""

    thread: np.ndarray
    topic: np.ndarray
    rank: np.ndarray
    behavior: np.ndarray


def _draw_stories(
    log: SyntheticLog,
    slots: _Slots,
    lengths: np.ndarray,
    taken: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, _StoryEvents]:
    """Rows of the events of stories, and these events."""
    stories, users = log.stories, len(lengths)
    nothing = np.zeros(0, np.int64)
    if not stories.share:
        return nothing, _StoryEvents(nothing, nothing, nothing, nothing)
    begun = np.floor(stories.share * lengths / _mean_story(stories) + rng.random(users))
    begun = begun.astype(np.int64)
    owner = np.repeat(np.arange(users), begun)
    number = np.arange(len(owner)) - np.repeat(_offsets(begun)[:-1], begun)
    consumable = rng.random(len(owner)) < stories.consumable
    topic = _draw_topics(log.catalogue, len(owner), rng, consumable=False)
    bought_again = np.flatnonzero(consumable)
    topic[bought_again] = _draw_topics(log.catalogue, len(bought_again), rng, consumable=True)
    rank, start = rng.random((2, len(owner)))
    chances = np.cumsum([fate.chance for fate in stories.fates])
    fate_of = np.searchsorted(chances / chances[-1], rng.random(len(owner)), side="right")

    parts = [_cycles_of(stories, bought_again, start, rng)]
    for place, fate in enumerate(stories.fates):
        own = np.flatnonzero(~consumable & (fate_of == place))
        parts.append(_events_of(fate, own, start, rng))
    of, tau, kind = (np.concatenate(column) for column in zip(*parts, strict=True))
    known = tau < 1.0
    of, tau, kind = of[known], tau[known], kind[known]
    last = _offsets(lengths)[1:] - 1
    opening, closing = slots.timestamp[slots.first[last]], slots.timestamp[last]
    due = opening[owner[of]] + tau * (closing - opening)[owner[of]]
    event = np.arange(len(of))
    event, row = _queue(log, slots, lengths, taken, event, owner[of], due)
    of, kind = of[event], kind[event]
    others = 2 * int(np.max(lengths))  # more than a user has cycles and dormant interests
    thread = log.taste.interests[1] + others + number[of]
    return row, _StoryEvents(thread, topic[of], rank[of], kind)


def _events_of(
    fate: Fate, own: np.ndarray, start: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Story, time (in the user's) and kind of each event of the stories `own` with this fate."""
    looks = rng.geometric(1.0 / fate.looks, len(own))
    returns = rng.geometric(1.0 / (1.0 + fate.returns), len(own)) - 1
    sold = rng.random(len(own)) < fate.sold
    marked = np.full(len(own), fate.mark is not None)
    count = looks + marked + returns + sold
    of = np.repeat(np.arange(len(own)), count)
    place = np.arange(len(of)) - np.repeat(_offsets(count)[:-1], count)
    is_mark = marked[of] & (place == looks[of])
    comes_back = place >= (looks + marked)[of]
    gap = np.where(comes_back, fate.gap, _BETWEEN_LOOKS) * rng.standard_exponential(len(of))
    gap[(place == 0) | is_mark] = 0.0  # the mark follows the look at once
    elapsed = np.cumsum(gap)
    first = _offsets(count)[:-1][of]
    tau = start[own][of] + elapsed - elapsed[first] + 1e-9 * place
    kind = np.full(len(of), PV, np.int8)
    if fate.mark is not None:
        kind[is_mark] = fate.mark
    kind[sold[of] & (place == count[of] - 1)] = BUY
    return own[of], tau, kind


def _cycles_of(
    stories: Stories, own: np.ndarray, start: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Story, time (in the user's) and kind of each event of the consumables `own`."""
    period = 1.0 / rng.uniform(*stories.rounds, size=len(own))
    count = 2 * np.ceil((1.0 - start[own]) / period).astype(np.int64)  # a look and a purchase
    of = np.repeat(np.arange(len(own)), count)
    place = np.arange(len(of)) - np.repeat(_offsets(count)[:-1], count)
    turn = place // 2
    # Both events of a round are as late as the round is.
    jitter = _PERIOD_JITTER * np.repeat(rng.standard_normal(len(of) // 2), 2)
    late = np.where(turn == 0, 0.0, jitter)
    tau = start[own][of] + (turn + late) * period[of] + 1e-9 * place
    return own[of], tau, np.where(place % 2 == 0, PV, BUY).astype(np.int8)


def _mean_story(stories: Stories) -> float:
    """Events of a story, about: what would come after the user's time is not told."""
    chances = sum(fate.chance for fate in stories.fates)
    told = sum(
        fate.chance * (fate.looks + (fate.mark is not None) + 0.75 * fate.returns + fate.sold)
        for fate in stories.fates
    )
    consumed = 1.0 + 0.5 * sum(stories.rounds)
    return stories.consumable * consumed + (1.0 - stories.consumable) * told / chances


def _queue(
    log: SyntheticLog,
    slots: _Slots,
    lengths: np.ndarray,
    taken: np.ndarray,
    event: np.ndarray,
    owner: np.ndarray,
    due: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Gives events that are due the user's next rows, one after the other: (event, row) of those kept.

    What is due between two sessions queues up at the next one. Events that meet a row that is `taken`
    [rows] or the user's first, or that are still queueing when the user's time is over, are given up.

    Args:
      log, slots, lengths: the chunk.
      taken: rows that are not free, bool [rows].
      event, owner, due: number, user and second of each event, [events].
    """
    last = _offsets(lengths)[1:] - 1
    in_time = np.lexsort((due, owner))
    event, owner, due = event[in_time], owner[in_time], due[in_time]
    # Rows are found for all users at once: a user's times are shifted past the user before.
    window = log.window[1] - log.window[0]
    clock = slots.user * window + (slots.timestamp - log.window[0])
    row = np.searchsorted(clock, owner * window + (due - log.window[0]))
    place = np.arange(len(row))
    row = np.maximum.accumulate(row - place) + place
    fits = row <= last[owner]
    event, row = event[fits], row[fits]
    free = ~taken[row] & (row > slots.first[row])
    return event[free], row[free]


def _draw_topics(
    catalogue: Catalogue, count: int, rng: np.random.Generator, consumable: bool | None
) -> np.ndarray:
    """Zipf draws among the browsed topics, the consumable ones (the last), or all (None)."""
    browsed = _browsed_categories(catalogue) * catalogue.topics_per_category
    topics = catalogue.categories * catalogue.topics_per_category
    low, high = {None: (0, topics), False: (0, browsed), True: (browsed, topics)}[consumable]
    return low + _zipf_rank(rng.random(count), high - low, catalogue.topic_zipf)


def _draw_items(catalogue: Catalogue, topic: np.ndarray, draw: np.ndarray) -> np.ndarray:
    """Inner number of the item that each uniform `draw` picks within its topic."""
    topics = catalogue.categories * catalogue.topics_per_category
    edges = np.arange(topics + 1) * catalogue.items // topics
    return edges[topic] + _zipf_rank(draw, np.diff(edges)[topic], catalogue.item_zipf)


def _zipf_rank(uniform: np.ndarray, size: int | np.ndarray, exponent: float) -> np.ndarray:
    """Ranks from 0 below `size` with probability about (rank + 1)^-exponent.

    The inverse of the distribution function of x^-exponent on [1, size + 1), rounded down: exact,
    without a table, for any mixture of sizes.
    """
    if exponent == 1.0:
        place = np.exp(uniform * np.log(np.asarray(size) + 1.0))
    else:
        power = 1.0 - exponent
        place = (1.0 + uniform * ((np.asarray(size) + 1.0) ** power - 1.0)) ** (1.0 / power)
    return np.minimum(place.astype(np.int64) - 1, np.asarray(size) - 1)


def _label(
    first_user: int, lengths: np.ndarray, thread: np.ndarray, labeled: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Target users (ranks), target positions, causes of each target, and the causes' positions."""
    starts = _offsets(lengths)[:-1]
    position = np.arange(len(thread)) - np.repeat(starts, lengths)
    targets, causes = [], []
    for lag in range(labeled, 0, -1):
        user = np.flatnonzero(lengths >= lag)
        place = lengths[user] - lag
        wanted, limit = np.zeros((2, len(lengths)), np.int64)
        wanted[user], limit[user] = thread[starts[user] + place], place
        hits = np.flatnonzero(
            (thread == np.repeat(wanted, lengths)) & (position < np.repeat(limit, lengths))
        )
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


@contextlib.contextmanager
def _replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A temporary name beside `path`, renamed to it when the block ends well, removed otherwise."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _in_string_order(users: int) -> np.ndarray:
    """The ids 1 to `users` in the order of their decimal strings: 1, 10, 100, 11, ..."""
    ids = np.arange(1, users + 1)
    digits = np.floor(np.log10(ids) + 1e-12).astype(np.int64)
    widest = int(digits[-1]) if users else 0
    return ids[np.lexsort((digits, ids * 10 ** (widest - digits)))]


def _offsets(counts: np.ndarray) -> np.ndarray:
    """CSR offsets of groups of these sizes, [groups + 1]."""
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])


def _latest(flag: np.ndarray) -> np.ndarray:
    """Row of the latest True at or before each row; -1 before the first."""
    return np.maximum.accumulate(np.where(flag, np.arange(len(flag)), -1))


def _repeats(topic: np.ndarray) -> np.ndarray:
    """True where a user's topic occurs among that user's earlier ones, [users, interests]."""
    same = topic[:, :, None] == topic[:, None, :]
    return np.any(np.tril(same, k=-1), axis=2)


def _browsed_categories(catalogue: Catalogue) -> int:
    return catalogue.categories - max(1, round(catalogue.consumable_share * catalogue.categories))


def _pins_extremes(population: Population) -> bool:
    """Whether one shortest and one longest history leave the others enough, and not too many."""
    low, high, others = population.shortest, population.longest, population.users - 2
    left = population.events - low - high
    return others > 0 and others * low <= left <= others * high


def _requirements(log: SyntheticLog) -> Iterator[tuple[object, str, bool]]:
    """Parts of the model, what each must fulfil, in words, and whether it does."""
    population, catalogue, taste, purchases = (
        log.population,
        log.catalogue,
        log.taste,
        log.purchases,
    )
    users, low, high = population.users, population.shortest, population.longest
    topics = catalogue.categories * catalogue.topics_per_category
    browsed = _browsed_categories(catalogue) * catalogue.topics_per_category
    shares = (purchases.consider_share, purchases.buy_share, purchases.repeat_share)
    seconds = (1.0 - 2.0 * _SPAN_MARGIN) * (log.window[1] - log.window[0])
    yield population, "at least one user", users >= 1
    yield population, "1 <= shortest <= longest", 1 <= low <= high
    yield (
        population,
        f"between {users * low:,} and {users * high:,} events",
        users * low <= population.events <= users * high,
    )
    yield (
        log.window,
        f"a window longer than {high / (1.0 - 2.0 * _SPAN_MARGIN):,.0f} s",
        high < seconds,
    )
    yield population, "a spread of at least 0", population.spread >= 0.0
    yield catalogue, "at least one topic a category", catalogue.topics_per_category >= 1
    yield catalogue, "at least one item a topic", catalogue.items >= topics > 0
    yield catalogue, "a consumable_share in [0, 1)", 0.0 <= catalogue.consumable_share < 1.0
    yield taste, "1 <= fewest <= most interests", 1 <= taste.interests[0] <= taste.interests[1]
    yield (
        catalogue,
        f"{2 * taste.interests[1]} browsed topics, twice as many as interests",
        browsed >= 2 * taste.interests[1],
    )
    yield taste, "a run_length of at least 1", taste.run_length >= 1.0
    yield taste, "a lone_share in [0, 1]", 0.0 <= taste.lone_share <= 1.0
    yield taste, "a strength_spread of at least 0", taste.strength_spread >= 0.0
    yield (
        purchases,
        "shares of at least 0 that leave a tenth for clicks",
        min(shares) >= 0.0 and sum(shares) < 0.9,
    )
    yield purchases, "1 <= fewest <= most cycles", 1.0 <= purchases.cycles[0] <= purchases.cycles[1]
    dormancy = log.dormancy
    yield (
        dormancy,
        "a share of returns of at least 0 that leaves a tenth for other clicks",
        0.0 <= dormancy.share <= 0.9 - sum(shares),
    )
    yield dormancy, "1 <= fewest <= most rounds", 1.0 <= dormancy.rounds[0] <= dormancy.rounds[1]
    stories = log.stories
    yield (
        stories,
        "a share of stories of at least 0 that leaves a tenth for other clicks",
        0.0 <= stories.share <= 0.9 - sum(shares) - dormancy.share,
    )
    yield stories, "fates of which one has a chance", any(fate.chance > 0 for fate in stories.fates)
    yield stories, "1 <= fewest <= most rounds", 1.0 <= stories.rounds[0] <= stories.rounds[1]


PRESETS = {
    "quickstart": SyntheticLog(
        Population(users=3_000, events=180_000, longest=500, spread=0.7),
        Catalogue(items=1_500, categories=60),
    ),
    "scale": SyntheticLog(
        Population(users=200_000, events=20_000_000, spread=1.2),
        Catalogue(items=1_000_000, categories=5_000, topics_per_category=4, item_zipf=1.0),
        Taste(interests=(3, 8)),
    ),
    # All kinds of events: six in ten tell stories of items that come back, or do not.
    "lifelong": SyntheticLog(
        Population(users=3_000, events=2_400_000, shortest=200, longest=4_000, spread=0.6),
        Catalogue(items=8_000, categories=80, topics_per_category=2),
        purchases=Purchases(consider_share=0.02, buy_share=0.005, repeat_share=0.0),
        stories=Stories(share=0.6),
    ),
    # Clicks alone, three in five of them returns: 500 events before the first of 40 targets ...
    "deep_500": SyntheticLog(
        Population(users=5_000, events=5_000 * 540, shortest=540, longest=540),
        Catalogue(items=3_000, categories=60, topics_per_category=5, consumable_share=0.1),
        purchases=Purchases(consider_share=0.0, buy_share=0.0, repeat_share=0.0),
        dormancy=Dormancy(share=0.6),
    ),
    # ... and 5,000 before the first of 100.
    "deep_5000": SyntheticLog(
        Population(users=1_900, events=1_900 * 5_100, shortest=5_100, longest=5_100),
        Catalogue(items=6_000, categories=120, topics_per_category=5, consumable_share=0.1),
        purchases=Purchases(consider_share=0.0, buy_share=0.0, repeat_share=0.0),
        dormancy=Dormancy(share=0.6, rounds=(8.0, 30.0)),
    ),
}


def define_flags(values: flags.FlagValues) -> None:
    """Adds the command's flags to `values`; not on import, which other commands do too."""
    integer = functools.partial(flags.DEFINE_integer, flag_values=values)
    flags.DEFINE_string("output", None, "CSV file to write.", flag_values=values, required=True)
    flags.DEFINE_enum(
        "preset", "quickstart", sorted(PRESETS), "Parameters to start from.", flag_values=values
    )
    integer("seed", 0, "Seed; the same seed gives the same bytes.", lower_bound=0)
    integer("users", None, "Number of users.")
    integer("events", None, "Number of events, exactly.")
    flags.DEFINE_float(
        "mean_length", None, "Mean events a user, instead of --events.", flag_values=values
    )
    integer("min_length", None, "Shortest history.")
    integer("max_length", None, "Longest history.")
    integer("items", None, "Number of items.")
    integer("categories", None, "Number of categories.")
    integer("window_start", None, "First second of the log.")
    integer("window_end", None, "First second after the log.")
    integer("truth_targets", 1, "How many of each user's last events get ready-made cause lists.")


def log_from_flags(values: flags.FlagValues) -> SyntheticLog:
    """The preset with what the flags change; a mean length that is not given stays the preset's.

    Raises:
      ValueError: the flags contradict each other or the model's requirements.
    """
    base = PRESETS[values.preset]
    population = _given(
        users=values.users,
        events=values.events,
        shortest=values.min_length,
        longest=values.max_length,
    )
    if values.events is not None and values.mean_length is not None:
        raise ValueError("expected --events or --mean_length; got both, leave one out.")
    mean = values.mean_length or base.population.events / base.population.users
    population.setdefault("events", round(mean * population.get("users", base.population.users)))
    start, end = base.window
    window = _given(start=values.window_start, end=values.window_end)
    return dataclasses.replace(
        base,
        population=dataclasses.replace(base.population, **population),
        catalogue=dataclasses.replace(
            base.catalogue, **_given(items=values.items, categories=values.categories)
        ),
        window=(window.get("start", start), window.get("end", end)),
    )


def _given(**values: int | None) -> dict[str, int]:
    """The values that are not None."""
    return {name: value for name, value in values.items() if value is not None}


def main(_: object) -> None:
    """Writes the log that the flags ask for."""
    values = flags.FLAGS
    log = log_from_flags(values)
    with tqdm(total=log.population.events, unit=" events", unit_scale=True) as bar:
        write_log(log, values.output, values.seed, values.truth_targets, bar.update)


if __name__ == "__main__":
    define_flags(flags.FLAGS)
    command_line.run(main)
