"""Specification of interest groups: what events are grouped by, and what each group is described by.

Batches, the index of behaviors and models share it and the names of the statistics (DGIN, Liu et al.,
2023, section 3.3). This module needs neither TensorFlow nor pandas.
"""

import dataclasses

ITEM, SESSION = "item_id", "session"
SESSION_GAP = 30 * 60  # seconds without an event that end a session (DSIN, section 3.2)
GAP = "gap"  # attribute: seconds from an event to the user's newest one
COUNT, TYPES, DISTINCT, MEAN = "count", "types", "distinct_", "mean_"
TOTAL = "total_"  # of features that hold the running statistics of each event's group


@dataclasses.dataclass(frozen=True)
class StatisticsSpec:
    """Statistics of a group, over all of its events (Eq. 3): `count`, and what the data have besides.

    Attributes:
      behavior_types: (name, id) of every type that is counted; () for none.
      distinct: fields whose different values are counted, such as `item_id` in groups by category.
      numeric_features: numeric features whose means are taken, see `dgin_tf.numeric_features`.
    """

    behavior_types: tuple[tuple[str, int], ...] = ()
    distinct: tuple[str, ...] = ()
    numeric_features: tuple[str, ...] = ()

    def __post_init__(self):
        # JSON has lists alone, and specifications are compared and hashed.
        object.__setattr__(self, "behavior_types", tuple(map(tuple, self.behavior_types)))
        object.__setattr__(self, "distinct", tuple(self.distinct))
        object.__setattr__(self, "numeric_features", tuple(self.numeric_features))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the statistics, in the order of their embeddings."""
        types = [TYPES, *(f"{COUNT}_{name}" for name, _ in self.behavior_types)]
        return (
            COUNT,
            *(types if self.behavior_types else ()),
            *(DISTINCT + name for name in self.distinct),
            *(MEAN + name for name in self.numeric_features),
        )


@dataclasses.dataclass(frozen=True)
class GroupSpec:
    """All that decides how a history becomes groups.

    Attributes:
      key: interest key, the field that events of a group share: `item_id`, another field, or `session`
        for what lies within half an hour of each other.
      groups: G, the most recent groups that remain; None for all.
      events: B, a group's newest events whose attributes remain.
      identity: fields that are the same for all events of a group (attr_i).
      attributes: in what a group's events differ: `gap`, `behavior_type` or other fields of events.
      statistics: attr_s; None for none.
    """

    key: str = ITEM
    groups: int | None = None
    events: int = 10
    identity: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    statistics: StatisticsSpec | None = None

    @property
    def statistic_names(self) -> tuple[str, ...]:
        """Names of the statistics; () for none."""
        return () if self.statistics is None else self.statistics.names
