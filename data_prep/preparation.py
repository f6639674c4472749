"""Everything that decides the bytes of a prepared data set, as one value."""

import dataclasses
import hashlib
import json
import os

from data_prep.events import SPLIT
from data_prep.id_policy import VocabularyOptions
from data_prep.protocol import EXAMPLES_FILE, GIVEN, IMPRESSIONS, Limits, Protocol
from data_prep.readers.base import Reader

FORMAT = 5  # raise it when the same flags give other bytes or other intermediate files


@dataclasses.dataclass(frozen=True)
class Preparation:
    """Everything that decides the bytes of a prepared data set.

    Attributes:
      reader: of the raw log, with its options.
      protocol: rules of the examples.
      limits: buckets and tolerance.
      seed: of splits and negatives.
      examples: path of the file of protocol `examples_file`, else empty.
      whole_histories: whether all events of all users are written too, for what serves requests.
      vocabulary: which values have an id of their own, and which one.
    """

    reader: Reader
    protocol: Protocol
    limits: Limits = Limits()
    seed: int = 1
    examples: str = ""
    whole_histories: bool = True
    vocabulary: VocabularyOptions = VocabularyOptions()

    def __post_init__(self):
        if bool(self.examples) != (self.protocol.name == EXAMPLES_FILE):
            raise ValueError(
                "protocol examples_file needs --examples=FILE and no other protocol takes it; got protocol "
                f"{self.protocol.name} with examples {self.examples!r}."
            )
        self._check_impressions()
        for types, log_types in (
            (self.limits.behavior_types, self.reader.behavior_types),
            (self.protocol.positive_types, self.behavior_types),
            (self.protocol.history_types, self.reader.behavior_types),
        ):
            unknown = set(types) - set(log_types)
            if unknown:
                raise ValueError(
                    f"unknown behavior types {sorted(unknown)}; this log has {list(log_types)}."
                )

    def _check_impressions(self) -> None:
        """Raises ValueError unless labels and splits go with protocol `impressions`."""
        is_impressions = self.protocol.name == IMPRESSIONS
        if is_impressions != bool(self.reader.impression_columns):
            raise ValueError(
                f"protocol {IMPRESSIONS} needs a table with --label_column=COLUMN, and no other protocol "
                f"takes one; got protocol {self.protocol.name} with the columns "
                f"{list(self.reader.impression_columns)}."
            )
        if (self.protocol.split_by == GIVEN) != (SPLIT in self.reader.impression_columns):
            raise ValueError(
                f"split_by {GIVEN} needs --split_column=COLUMN, and no other split takes one; got "
                f"split_by {self.protocol.split_by}. Leave --split_by out."
            )
        if is_impressions and self.limits.behavior_types:
            raise ValueError(
                f"protocol {IMPRESSIONS} takes --history_types=TYPES for the past events to keep; got "
                f"behavior_types {list(self.limits.behavior_types)}."
            )

    @property
    def behavior_types(self) -> tuple[str, ...]:
        """Behavior types that are kept; empty where the log has one kind of event."""
        return (
            self.limits.behavior_types or self.protocol.history_types or self.reader.behavior_types
        )

    def files(self) -> tuple[str, ...]:
        """Every input file, the examples file and those of an earlier data set's ids among them."""
        examples = [self.examples] if self.examples else []
        return (*self.reader.files(), *examples, *self.vocabulary.files())

    def settings(self) -> dict[str, object]:
        """All choices as plain JSON values; the manifest carries them."""
        protocol = dataclasses.asdict(self.protocol)
        if not self.protocol.targets_from:
            del protocol["targets_from"]  # all events may be targets, as in earlier versions
        options = {name: value for name, value in self.reader.options.items() if value is not None}
        return {
            "reader": type(self.reader).__name__,
            "reader_options": json.loads(json.dumps(options, default=list)),
            **json.loads(json.dumps(protocol)),  # tuples become lists
            "max_bad_fraction": self.limits.max_bad_fraction,
            "behavior_types": list(self.limits.behavior_types),
            "seed": self.seed,
            "examples": os.path.basename(self.examples),
            # Data sets with whole histories have what earlier versions wrote, and these besides.
            **({} if self.whole_histories else {"whole_histories": False}),
            **self.vocabulary.settings(),
        }

    @property
    def positive_types(self) -> tuple[int, ...]:
        """Behavior types of positives, by number; empty where all events are positives."""
        return tuple(map(self.reader.behavior_types.index, self.protocol.positive_types))

    @property
    def history_types(self) -> tuple[int, ...]:
        """Behavior types of past events, by number; empty where the protocol chooses none."""
        return tuple(map(self.reader.behavior_types.index, self.protocol.history_types))

    def key(self) -> str:
        """Changes with every choice and with every change of an input file."""
        # Size and modification time stand for the content: hashing takes as long as reading.
        stats = [(os.path.realpath(path), os.stat(path)) for path in self.files()]
        content = [
            FORMAT,
            self.settings(),
            dataclasses.asdict(self.limits),
            [(path, stat.st_size, stat.st_mtime_ns) for path, stat in stats],
        ]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
