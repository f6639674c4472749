"""Stories of single items: looks, a mark that tells what follows, and returns or a purchase."""

import dataclasses

import numpy as np

from data_prep.synthetic.config import BUY, PV, Fate, Stories, SyntheticLog
from data_prep.synthetic.returns import PERIOD_JITTER, queue
from data_prep.synthetic.sampling import csr_offsets, draw_topics, group_members
from data_prep.synthetic.slots import Slots

_BETWEEN_LOOKS = 0.002  # time between the first looks at an item, in the user's time, on average


@dataclasses.dataclass(frozen=True)
class StoryEvents:
    """Thread, topic, item draw and behavior type of each event of a story, [events]."""

    thread: np.ndarray
    topic: np.ndarray
    rank: np.ndarray
    behavior: np.ndarray


def draw_stories(
    log: SyntheticLog, slots: Slots, occupied_rows: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, StoryEvents]:
    """Rows of the events of stories, and these events."""
    stories, lengths = log.stories, slots.lengths
    nothing = np.zeros(0, np.int64)
    if not stories.share:
        return nothing, StoryEvents(nothing, nothing, nothing, nothing)
    counts = np.floor(stories.share * lengths / _mean_events(stories) + rng.random(len(lengths)))
    owner, number = group_members(counts.astype(np.int64))
    consumable = rng.random(len(owner)) < stories.consumable
    topic = draw_topics(log.catalogue, len(owner), rng, consumable=False)
    consumables = np.flatnonzero(consumable)
    topic[consumables] = draw_topics(log.catalogue, len(consumables), rng, consumable=True)
    rank, start = rng.random((2, len(owner)))
    chances = np.cumsum([fate.chance for fate in stories.fates])
    # One fate for each story, [stories].
    fate_of = np.searchsorted(chances / chances[-1], rng.random(len(owner)), side="right")

    parts = [_consumable_events(stories, consumables, start, rng)]
    for place, fate in enumerate(stories.fates):
        own = np.flatnonzero(~consumable & (fate_of == place))
        parts.append(_fate_events(fate, own, start, rng))
    story, tau, behavior = (np.concatenate(column) for column in zip(*parts, strict=True))
    # tau counts in the user's time, 0 at the first event and 1 at the last.
    in_time = tau < 1.0
    story, tau, behavior = story[in_time], tau[in_time], behavior[in_time]
    user = owner[story]
    due = slots.opening[user] + tau * (slots.closing - slots.opening)[user]
    event, row = queue(slots, occupied_rows, user, due)
    story, behavior = story[event], behavior[event]
    others = 2 * int(np.max(lengths))  # more than a user has cycles and dormant interests
    thread = log.taste.interests[1] + others + number[story]
    return row, StoryEvents(thread, topic[story], rank[story], behavior)


def _fate_events(
    fate: Fate, own: np.ndarray, start: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Story, time (in the user's) and behavior type of each event of the stories `own` of this fate."""
    looks = rng.geometric(1.0 / fate.looks, len(own))
    returns = rng.geometric(1.0 / (1.0 + fate.returns), len(own)) - 1
    sold = rng.random(len(own)) < fate.sold
    marks = np.full(len(own), fate.mark is not None)
    count = looks + marks + returns + sold
    story, place = group_members(count)
    is_mark = marks[story] & (place == looks[story])
    is_return = place >= (looks + marks)[story]
    gap = np.where(is_return, fate.gap, _BETWEEN_LOOKS) * rng.standard_exponential(len(story))
    gap[(place == 0) | is_mark] = 0.0  # the mark follows the look at once
    clock = np.cumsum(gap)  # of all stories, one after the other
    tau = start[own][story] + clock - clock[csr_offsets(count)[:-1][story]] + 1e-9 * place
    behavior = np.full(len(story), PV, np.int8)
    if fate.mark is not None:
        behavior[is_mark] = fate.mark
    behavior[sold[story] & (place == count[story] - 1)] = BUY
    return own[story], tau, behavior


def _consumable_events(
    stories: Stories, own: np.ndarray, start: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Story, time (in the user's) and behavior type of each event of the consumables `own`."""
    period = 1.0 / rng.uniform(*stories.rounds, size=len(own))
    count = 2 * np.ceil((1.0 - start[own]) / period).astype(np.int64)  # a look and a purchase
    story, place = group_members(count)
    turn = place // 2
    # Both events of a round are as late as the round is.
    jitter = PERIOD_JITTER * np.repeat(rng.standard_normal(len(story) // 2), 2)
    late = np.where(turn == 0, 0.0, jitter)
    tau = start[own][story] + (turn + late) * period[story] + 1e-9 * place
    return own[story], tau, np.where(place % 2 == 0, PV, BUY).astype(np.int8)


def _mean_events(stories: Stories) -> float:
    """Events of a story, about: those after the user's time are left out."""
    chances = sum(fate.chance for fate in stories.fates)
    of_fates = sum(
        fate.chance * (fate.looks + (fate.mark is not None) + 0.75 * fate.returns + fate.sold)
        for fate in stories.fates
    )
    of_consumables = 1.0 + 0.5 * sum(stories.rounds)
    return stories.consumable * of_consumables + (1.0 - stories.consumable) * of_fates / chances
