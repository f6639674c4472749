"""Parameters of the generative model, what they must fulfil, and presets."""

import dataclasses
from collections.abc import Iterator

BEHAVIORS = ("pv", "buy", "cart", "fav")
PV, BUY, CART, FAV = range(4)


# Taobao's official window, 25 November to 3 December 2017, Beijing time.
WINDOW_START = 1_511_539_200
WINDOW_END = 1_512_316_800
SPAN_MARGIN = 0.1  # users come within the first tenth of the window and leave within the last


@dataclasses.dataclass(frozen=True)
class Population:
    """Users and lengths of histories: `users` with `events` events in all.

    `shortest` and `longest` bound the histories; `spread` is the deviation of log length.
    """

    users: int
    events: int
    shortest: int = 10
    longest: int = 54_000
    spread: float = 1.0


@dataclasses.dataclass(frozen=True)
class Catalogue:
    """Items and categories: `items` in `categories`, each of `topics_per_category` topics.

    `consumable_share` of the categories are bought in cycles; `item_zipf` and `topic_zipf` are the
    exponents of popularity of an item within its topic and of a topic.
    """

    items: int
    categories: int
    topics_per_category: int = 1
    consumable_share: float = 0.2
    item_zipf: float = 0.8
    topic_zipf: float = 0.4

    @property
    def browsing_categories(self) -> int:
        """Number of categories that are no consumables; at least one category is one."""
        return self.categories - max(1, round(self.consumable_share * self.categories))


@dataclasses.dataclass(frozen=True)
class Taste:
    """Interests of users: fewest and most `interests` of a user, and how these are followed.

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
    """Purchases of users: shares of all events, and how often a cycle comes round.

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
    """Returns after a long time: the `share` of all events that are such returns.

    `rounds` are the fewest and most returns to a topic in a user's time.
    """

    share: float = 0.0
    rounds: tuple[float, float] = (2.5, 8.0)


@dataclasses.dataclass(frozen=True)
class Fate:
    """One continuation of the story of an item that was looked at.

    `chance` that it is this one; `mark`: the behavior type that follows the first looks, if any;
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
    """Stories of single items: the `share` of all events, and the fates of the items.

    `consumable` is the share of stories whose item is bought again each time its period has passed,
    `rounds` the fewest and most purchases of one in a user's time; `fates` are those of the others.
    """

    share: float = 0.0
    consumable: float = 0.15
    rounds: tuple[float, float] = (4.0, 8.0)
    fates: tuple[Fate, ...] = FATES


@dataclasses.dataclass(frozen=True)
class SyntheticLog:
    """The generative model with all its parameters; the package's docstring says how they act.

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
        for part, requirement, holds in _requirements(self):
            if not holds:
                raise ValueError(f"a synthetic log needs {requirement}; got {part}.")


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
    browsing_topics = catalogue.browsing_categories * catalogue.topics_per_category
    shares = (purchases.consider_share, purchases.buy_share, purchases.repeat_share)
    seconds = (1.0 - 2.0 * SPAN_MARGIN) * (log.window[1] - log.window[0])
    yield population, "at least one user", users >= 1
    yield population, "1 <= shortest <= longest", 1 <= low <= high
    yield (
        population,
        f"between {users * low:,} and {users * high:,} events",
        users * low <= population.events <= users * high,
    )
    yield (
        log.window,
        f"a window longer than {high / (1.0 - 2.0 * SPAN_MARGIN):,.0f} s",
        high < seconds,
    )
    yield population, "a spread of at least 0", population.spread >= 0.0
    yield catalogue, "at least one topic a category", catalogue.topics_per_category >= 1
    yield catalogue, "at least one item a topic", catalogue.items >= topics > 0
    yield catalogue, "a consumable_share in [0, 1)", 0.0 <= catalogue.consumable_share < 1.0
    yield taste, "1 <= fewest <= most interests", 1 <= taste.interests[0] <= taste.interests[1]
    yield (
        catalogue,
        f"{2 * taste.interests[1]} browsing topics, twice as many as interests",
        browsing_topics >= 2 * taste.interests[1],
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
    # All behavior types: six in ten tell stories of items that come back, or do not.
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
