"""Settings of a preparation: the protocol by which examples are made, and its limits."""

import dataclasses
from collections.abc import Sequence
from typing import Any

LAST_EVENT = "last_event"
MULTI_BEHAVIOR = "multi_behavior"
EVERY_EVENT = "every_event"
EXAMPLES_FILE = "examples_file"
IMPRESSIONS = "impressions"
PROTOCOLS = (LAST_EVENT, MULTI_BEHAVIOR, EVERY_EVENT, EXAMPLES_FILE, IMPRESSIONS)
STRICT = "strict"
PAPER = "paper"
USER = "user"
TIME = "time"
LAST_TIME = "last_time"
GIVEN = "given"
UNIFORM = "uniform"
POPULARITY = "popularity"


@dataclasses.dataclass(frozen=True)
class Protocol:
    """Rules by which examples are made from histories.

    Attributes:
      name: `last_event` (each user's last events against sampled negatives), `multi_behavior` (each
        user's last clicks against sampled negatives, all behavior types in the history),
        `every_event` (each event is an example of what came before it),
        `examples_file` (fixed examples, the lines of a file) or `impressions` (labeled samples of
        requests, seen from what came before the request).
      form: `strict`: negatives are items of the training vocabulary that the user has no event with,
        and no candidate sees an event of its own second or later. `paper` (not of `examples_file` or
        `impressions`): what the papers' code does; see `paper_form`.
      positive_types: behavior types of positives. The targets of `multi_behavior` are events of
        these types. In `every_event`, if there are any, events of all other types are the negatives
        and none are sampled; without, every event is a positive.
      negatives: for each positive; none where the behavior types tell them.
      negative_distribution: `uniform` or `popularity` (in proportion to training events).
      own_negatives: share of the negatives of `multi_behavior` that are drawn from the user's own
        earlier events, of items that the user has no later event with.
      targets_per_user: the newest so many events of a user (by time: of each of the user's splits).
      min_history: a target with fewer events before it is left out.
      max_history: events stored before a user's first target; 0 stores all.
      split_by: `user` (by a hash), `time` (of the target), `last_time` (users by the time of their
        last target), or `given` (by a column of the impressions).
      fractions: of users, or of events (of users) in time order, in train, validation and test.
      time_cuts: seconds at which validation and test begin; empty takes them from `fractions`.
      history_types: behavior types of past events in `impressions`; empty takes clicked impressions, or all
        events of a behavior log.
      targets_from: second from which on events are targets; earlier ones are histories alone, as in a data set
        of one day's examples.
    """

    name: str = LAST_EVENT
    form: str = STRICT
    positive_types: tuple[str, ...] = ()
    negatives: int = 1
    negative_distribution: str = UNIFORM
    own_negatives: float = 0.0
    targets_per_user: int = 1
    min_history: int = 1
    max_history: int = 0
    split_by: str = USER
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)
    time_cuts: tuple[int, ...] = ()
    history_types: tuple[str, ...] = ()
    targets_from: int = 0

    def __post_init__(self):
        for name, choices in (
            ("name", PROTOCOLS),
            ("form", (STRICT, PAPER)),
            ("negative_distribution", (UNIFORM, POPULARITY)),
            ("split_by", (USER, TIME, LAST_TIME, GIVEN)),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"expected {name} to be one of {', '.join(choices)}; "
                    f"got {getattr(self, name)!r}."
                )
        for name, least in (
            ("negatives", 0 if self.has_labels else 1),
            ("targets_per_user", 1),
            ("min_history", 0),
            ("max_history", 0),
        ):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}; got {getattr(self, name)}.")
        # A sum of decimal fractions may exceed 1 by rounding.
        if (
            len(self.fractions) != 3
            or min(self.fractions) < 0
            or not self.fractions[0] > 0
            or not sum(self.fractions) <= 1 + 1e-9
        ):
            raise ValueError(
                "expected three fractions for train, validation and test, none negative, the first above 0 "
                f"and 1 at most together; got {list(self.fractions)}."
            )
        if self.time_cuts and (len(self.time_cuts) != 2 or self.time_cuts[0] > self.time_cuts[1]):
            raise ValueError(
                "expected two rising time cuts, where validation and where test begins; got "
                f"{list(self.time_cuts)}."
            )

        for holds, requirement in (
            (
                not self.positive_types or self.name in (MULTI_BEHAVIOR, EVERY_EVENT),
                f"positive_types with {MULTI_BEHAVIOR} or {EVERY_EVENT} only",
            ),
            (
                self.positive_types or self.name != MULTI_BEHAVIOR,
                f"positive_types for {MULTI_BEHAVIOR}: the behavior types that are clicks",
            ),
            (
                not self.has_labels or not self.negatives,
                f"no sampled negatives in {IMPRESSIONS}, or where {EVERY_EVENT} has positive_types",
            ),
            (
                self.targets_per_user == 1 or self.name not in (EVERY_EVENT, IMPRESSIONS),
                f"no targets_per_user with {self.name}, of which every event is one",
            ),
            (
                not self.own_negatives or self.name == MULTI_BEHAVIOR,
                f"own_negatives with {MULTI_BEHAVIOR} only",
            ),
            (
                self.targets_from >= 0 and (not self.targets_from or self.name != EXAMPLES_FILE),
                f"a second as targets_from, and none with {EXAMPLES_FILE}, which names its targets",
            ),
            (0.0 <= self.own_negatives <= 1.0, "own_negatives between 0 and 1"),
            (
                not self.history_types or self.name == IMPRESSIONS,
                f"history_types with {IMPRESSIONS} only",
            ),
            (
                self.split_by != (LAST_TIME if self.name == IMPRESSIONS else GIVEN),
                f"split_by {GIVEN} with {IMPRESSIONS} only, and {LAST_TIME} not with it",
            ),
            (
                self.strict or self.name != IMPRESSIONS,
                f"no paper form of {IMPRESSIONS}; leave --form out",
            ),
        ):
            if not holds:
                raise ValueError(f"expected {requirement}; got {self}.")

    @property
    def strict(self) -> bool:
        return self.form == STRICT

    @property
    def has_labels(self) -> bool:
        """True if the log tells positives from negatives, so that none are sampled."""
        return self.name == IMPRESSIONS or self.name == EVERY_EVENT and bool(self.positive_types)

    @property
    def row_width(self) -> int:
        """Candidates that one row may have at most; 0 where all of one cut share a row.

        Raters click through a page within a second: rows of every event that saw the same history
        would make a few rows as wide as the busiest second and all others as wide with padding.
        """
        return 1 + self.negatives if self.name == EVERY_EVENT else 0


def make_protocol(name: str, form: str, **choices: Any) -> Protocol:
    """The protocol with the choices that are not None, and its own default for the others.

    `every_event` is split by time, 80 to 20, with a tenth of the training time for validation (ENCODE,
    section 4.1), `impressions` by time as well and with those of users without a history, and `multi_behavior` has 99 negatives in the paper form, which gives the paper's
    level of log loss.

    Raises:
      ValueError: the choices contradict each other.
    """
    defaults: dict[str, Any] = {}
    if name == EVERY_EVENT:
        defaults = {"split_by": TIME, "fractions": (0.72, 0.08, 0.2)}
        if choices.get("positive_types"):
            defaults["negatives"] = 0
    elif name == IMPRESSIONS:
        defaults = {"split_by": TIME, "negatives": 0, "min_history": 0}
    elif name == MULTI_BEHAVIOR and form == PAPER:
        defaults = {"negatives": 99}
    settings = defaults | {key: value for key, value in choices.items() if value is not None}
    # Fixed examples decide themselves what the paper form would change.
    if form != PAPER or name in (EXAMPLES_FILE, IMPRESSIONS):
        return Protocol(name, form, **settings)
    return paper_form(Protocol(name, **settings))


def paper_form(protocol: Protocol) -> Protocol:
    """The protocol with the quirks of the papers and of their released code.

    In all: the test examples are the validation examples too; negatives are rejected only where they
    equal the positive, so that one may be something that the user clicked; the vocabulary counts
    every event, those of test users and the targets among them; events of the target's own second
    that sort before it are in its history.

    - `last_event` (DIEN's code, of which only the lengths can be chosen): nine users in ten train and
      the tenth tests; one negative a positive, drawn from the multiset of all events.
    - `multi_behavior` (DGIN on Taobao, "following MIMN"): the last click of each user, histories of
      at most 500 events unless told otherwise; users are split by the second of their last click,
      the first seven in ten train (MIMN's code; DGIN does not say); negatives are uniform.
    - `every_event` (ENCODE): the first 80 % of the time train, the first event of a user is an
      example too.

    Raises:
      ValueError: a setting that the released code does not have.
    """
    # Settings that the released code does not have must be at their defaults.
    changes, constants = _PAPER_FORMS[protocol.name]
    default = make_protocol(protocol.name, STRICT, positive_types=protocol.positive_types)
    for name in constants:
        if getattr(protocol, name) != getattr(default, name):
            raise ValueError(
                f"the paper form has {name}={getattr(default, name)}; got "
                f"{getattr(protocol, name)!r}. Leave the flag out or use --form=strict."
            )
    longest = protocol.max_history
    if protocol.name == MULTI_BEHAVIOR:
        longest = longest or _DGIN_HISTORY
    return dataclasses.replace(
        protocol, form=PAPER, max_history=longest, time_cuts=(), **dict(changes)
    )


_DGIN_HISTORY = 500

# What the paper form changes, and what cannot be chosen in it.
_PAPER_FORMS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    LAST_EVENT: (
        {"negative_distribution": POPULARITY, "fractions": (0.9, 0.0, 0.1)},
        ("negatives", "targets_per_user", "split_by"),
    ),
    MULTI_BEHAVIOR: (
        {"split_by": LAST_TIME, "fractions": (0.7, 0.0, 0.3)},
        ("targets_per_user", "split_by", "own_negatives"),
    ),
    EVERY_EVENT: ({"fractions": (0.8, 0.0, 0.2), "min_history": 0}, ("split_by",)),
}


@dataclasses.dataclass(frozen=True)
class Limits:
    """Resources of a preparation and its tolerance of bad rows.

    Attributes:
      buckets: user-hash buckets; 0 chooses them from the input's size and `memory_mb`.
      memory_mb: for one bucket in one worker.
      max_bad_fraction: more unreadable rows than this are an error.
      behavior_types: behavior types to keep; empty keeps all.
    """

    buckets: int = 0
    memory_mb: int = 512
    max_bad_fraction: float = 0.01
    behavior_types: tuple[str, ...] = ()

    def __post_init__(self):
        if self.buckets < 0 or self.buckets > 1 << 16 or self.memory_mb < 1:
            raise ValueError(
                f"expected 0 to 65536 buckets and at least 1 MB; got buckets={self.buckets} and "
                f"memory_mb={self.memory_mb}."
            )
        if not 0 <= self.max_bad_fraction <= 1:
            raise ValueError(
                f"expected max_bad_fraction between 0 and 1, got {self.max_bad_fraction}."
            )

    def bucket_count(self, input_bytes: Sequence[tuple[bool, int]], candidates: int = 0) -> int:
        """Number of buckets that keeps each within `memory_mb`.

        Args:
          input_bytes: (is compressed, bytes) of each input file.
          candidates: of each event, where every event is a target; else 0.
        """
        rows = sum(n * (_COMPRESSION if is_packed else 1) for is_packed, n in input_bytes)
        rows //= _BYTES_PER_ROW
        # Bytes of one event while its bucket is sorted, with its candidates.
        memory = _MEMORY_PER_ROW + candidates * _MEMORY_PER_CANDIDATE
        return self.buckets or max(1, -(-rows * memory // (self.memory_mb << 20)))


# Estimates that only have to be about right: a log's bytes a row and compression, and what a row
# and a candidate take while their bucket is sorted and packed.
_BYTES_PER_ROW = 32
_COMPRESSION = 6
_MEMORY_PER_ROW = 320
_MEMORY_PER_CANDIDATE = 160
