"""The one description of the data that everything else reads.

A `Schema` names the fields of a prepared data set, the part that each plays (user, history,
candidate, context of the request), and the size of every vocabulary. It is written as `schema.json` beside the records.
The record writer, the parser, the embedding, the serving signatures and the stores read it; none of
them lists features of its own.

Ids are dense: 0 is padding, 1 is out-of-vocabulary, real values start at 2.

This module needs neither TensorFlow nor pandas.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping

PADDING_ID = 0
UNKNOWN_ID = 1
FIRST_ID = 2

USER = "user"
HISTORY = "history"
CANDIDATE = "candidate"
CONTEXT = "context"
PREFIX = {USER: "user_", HISTORY: "hist_", CANDIDATE: "cand_", CONTEXT: "context_"}
OF_ROWS = (USER, CONTEXT)  # roles with one value for all candidates of a row
HISTORY_MASK, CANDIDATE_MASK = (PREFIX[role] + "mask" for role in (HISTORY, CANDIDATE))

SCHEMA_FILE = "schema.json"
FORMAT_VERSION = 1
TIMESTAMP, BEHAVIOR_TYPE = "timestamp", "behavior_type"
USER_ID, ITEM, REQUEST = "user_id", "item_id", "request_id"
# Of impressions, in millionths: the weight of a sample's loss, and the share of ignored impressions that a log
# kept.
SAMPLE_WEIGHT, NEGATIVE_RATE = "sample_weight", "negative_rate"
MILLIONTHS = 1_000_000
_NO_NUMBERS = (TIMESTAMP, REQUEST, SAMPLE_WEIGHT, NEGATIVE_RATE)


RECORDED_IDS = (USER_ID, PREFIX[CANDIDATE] + ITEM)
"""Features that a batch has twice where a model knows earlier ids alone, see `recorded`."""


@dataclasses.dataclass(frozen=True)
class Field:
    """One attribute of users, past events, candidates or requests.

    Attributes:
      name: `item_id`, `category_id`, `timestamp`, `user_gender`, ...
      roles: where the field occurs, a subset of `USER`, `HISTORY`, `CANDIDATE`, `CONTEXT`.
      vocabulary: the vocabulary its ids come from. Fields that name the same vocabulary share one
        embedding table. Empty for timestamps, which are seconds, for numeric features, which are codes of
        `dgin_tf.numeric_features`, and for the request, weight and rate of impressions; none is ever embedded
        as an id.
      values: ids of a multi-valued field, such as tags, at most; fewer are padded with 0 at the end. 1 for
        a field of one value, whose features have no axis of values.
      moments: mean and standard deviation of a standardized number, float32 and NaN where unknown; empty for
        all other fields.
      boundaries: rising upper bounds of all buckets of a bucketed number but the last, whose ids are from
        `FIRST_ID` on; empty for all other fields.
      is_column: True for what a file of columns declares, which every model reads.
    """

    name: str
    roles: tuple[str, ...]
    vocabulary: str = ""
    values: int = 1
    moments: tuple[float, ...] = ()
    boundaries: tuple[float, ...] = ()
    is_column: bool = False

    def __post_init__(self):
        unknown = set(self.roles) - set(PREFIX)
        if not self.name or not self.roles or unknown:
            raise ValueError(
                f"a field needs a name and roles among {sorted(PREFIX)}; got name {self.name!r} "
                f"with roles {list(self.roles)!r}."
            )
        check_positive(values=self.values)
        if self.moments and (self.vocabulary or len(self.moments) != 2 or not self.moments[1] > 0):
            raise ValueError(
                f"field {self.name!r} is standardized by a mean and a positive standard deviation, without "
                f"a vocabulary; got {self.moments} and vocabulary {self.vocabulary!r}."
            )
        if self.values > 1 and not self.vocabulary:
            raise ValueError(f"field {self.name!r} has several values, which must be ids.")

    @property
    def is_categorical(self) -> bool:
        return bool(self.vocabulary)

    @property
    def is_numeric(self) -> bool:
        """True for numbers that events have as integer codes, such as dwell time."""
        return not (self.vocabulary or self.moments) and self.name not in _NO_NUMBERS

    @property
    def is_standardized(self) -> bool:
        """True for numbers that are embedded as they are, standardized."""
        return bool(self.moments)

    @property
    def is_embedded(self) -> bool:
        """True for ids and standardized numbers, of which models have tables."""
        return self.is_categorical or self.is_standardized

    @property
    def table(self) -> str:
        """Name of the embedding table: that of the vocabulary, or of a standardized number itself."""
        return self.vocabulary or self.name

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one value: () or (values,)."""
        return (self.values,) if self.values > 1 else ()

    @property
    def dtype(self) -> str:
        """Numpy name of the stored values: int32 for ids, float32 for standardized numbers, and int64 for
        seconds and numeric codes.
        """
        if self.is_standardized:
            return "float32"
        return "int32" if self.is_categorical else "int64"

    def to_entry(self) -> dict[str, object]:
        """The field as plain JSON values; what earlier versions did not have is left out where it is default."""
        entry = dataclasses.asdict(self)
        more = dataclasses.fields(self)[3:]
        return {
            name: value
            for name, value in entry.items()
            if name not in {f.name for f in more if f.default == value}
        }

    @classmethod
    def from_entry(cls, entry: Mapping) -> "Field":
        """Inverse of `to_entry`; raises KeyError or TypeError for anything else."""
        values = {n: tuple(v) if isinstance(v, list) else v for n, v in entry.items()}
        return cls(**{"vocabulary": entry["vocabulary"], **values})


@dataclasses.dataclass(frozen=True)
class Schema:
    """Fields, vocabularies and limits of one prepared data set.

    Attributes:
      fields: all fields, in the order in which their embeddings are concatenated.
      vocabulary_sizes: vocabulary name -> number of ids, with the two reserved ones counted.
      max_history: the longest history that the records hold, in events.
      behavior_types: names of the behavior types in the order of their ids (the first has id 2);
        empty where the log has only one.
    """

    fields: tuple[Field, ...]
    vocabulary_sizes: Mapping[str, int]
    max_history: int
    behavior_types: tuple[str, ...] = ()

    def __post_init__(self):
        names = [field.name for field in self.fields]
        duplicates = sorted({name for name in names if names.count(name) > 1})
        if duplicates:
            raise ValueError(f"field names must be unique; {', '.join(duplicates)} occur twice.")
        for field in self.fields:
            if field.is_categorical and self.vocabulary_sizes.get(field.vocabulary, 0) < FIRST_ID:
                raise ValueError(
                    f"field {field.name!r} uses vocabulary {field.vocabulary!r}, which needs a size "
                    f"of at least {FIRST_ID} in vocabulary_sizes; got "
                    f"{self.vocabulary_sizes.get(field.vocabulary)!r}."
                )
        check_positive(max_history=self.max_history)

    def field(self, name: str) -> Field:
        """Returns the field called `name`; raises KeyError with the known names."""
        for field in self.fields:
            if field.name == name:
                return field
        raise KeyError(f"no field {name!r} in the schema; it has {[f.name for f in self.fields]}.")

    def with_role(self, role: str) -> tuple[Field, ...]:
        """Fields that play `role`, in schema order."""
        return tuple(field for field in self.fields if role in field.roles)

    @property
    def paired_fields(self) -> tuple[Field, ...]:
        """What past events and candidates both have embedded, which attention may compare."""
        return tuple(
            field
            for field in self.fields
            if field.is_embedded and HISTORY in field.roles and CANDIDATE in field.roles
        )

    @property
    def paired_ids(self) -> tuple[Field, ...]:
        """Paired fields of one id, by which events can be searched, grouped and crossed."""
        return tuple(f for f in self.paired_fields if f.is_categorical and f.values == 1)

    @property
    def stored_fields(self) -> tuple[Field, ...]:
        """What stores hold of past events: integers of one value; the catalogue knows the other attributes."""
        return tuple(f for f in self.with_role(HISTORY) if f.values == 1 and not f.is_standardized)

    @property
    def numeric_features(self) -> tuple[str, ...]:
        """Names of the numeric features that past events have."""
        return tuple(field.name for field in self.with_role(HISTORY) if field.is_numeric)

    @property
    def side_features(self) -> tuple[str, ...]:
        """Names of the ids that past events alone have beside the behavior type, such as a location."""
        return tuple(
            field.name
            for field in self.with_role(HISTORY)
            if field.is_categorical and len(field.roles) == 1 and field.name != BEHAVIOR_TYPE
        )

    @property
    def user_fields(self) -> tuple[Field, ...]:
        """Embedded fields of the user, the user id among them where the schema has it."""
        return tuple(field for field in self.with_role(USER) if field.is_embedded)

    @property
    def context_fields(self) -> tuple[Field, ...]:
        """Fields of the request, such as the hour or the device."""
        return self.with_role(CONTEXT)

    def features(self) -> dict[str, Field]:
        """Record feature name -> field, for every field in every role."""
        return {
            feature_name(role, field): field for role in PREFIX for field in self.with_role(role)
        }

    def to_json(self) -> str:
        """Canonical JSON text: the same schema always gives the same bytes."""
        content = {"format_version": FORMAT_VERSION, **dataclasses.asdict(self)}
        content["fields"] = [field.to_entry() for field in self.fields]
        return json.dumps(content, indent=2, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Schema":
        """Inverse of `to_json`; raises ValueError where the text is no schema of this version."""
        try:
            content = json.loads(text)
            version = content.pop("format_version")
            if version != FORMAT_VERSION:
                raise ValueError(f"format version {version}")
            fields = tuple(Field.from_entry(entry) for entry in content.pop("fields"))
            behavior_types = tuple(content.pop("behavior_types"))
            return cls(fields=fields, behavior_types=behavior_types, **content)
        except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
            raise ValueError(
                f"expected a dgin_tf schema of format version {FORMAT_VERSION}; got {error!r}. "
                "Prepare the data again with this version of data_prep."
            ) from error

    def fingerprint(self) -> str:
        """Hash by which records, checkpoints, bundles and stored states are matched."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    def save(self, data_dir: str | os.PathLike) -> pathlib.Path:
        """Writes `schema.json` into `data_dir`, whole or not at all."""
        path = pathlib.Path(data_dir) / SCHEMA_FILE
        write_text(path, self.to_json())
        return path

    @classmethod
    def load(cls, data_dir: str | os.PathLike) -> "Schema":
        """Reads `schema.json` of a prepared data set.

        Raises:
          FileNotFoundError: `data_dir` has no schema, so it is no prepared data set.
          ValueError: the file is not a schema of this version.
        """
        path = pathlib.Path(data_dir) / SCHEMA_FILE
        if not path.is_file():
            raise FileNotFoundError(
                f"expected a prepared data set with {SCHEMA_FILE} in {os.fspath(data_dir)!r}, found "
                "none; run python -m data_prep.prepare with that --output_dir first."
            )
        try:
            return cls.from_json(path.read_text(encoding="utf-8"))
        except ValueError as error:  # bytes that are no text too
            raise ValueError(f"{path}: {error}") from error


def feature_name(role: str, field: Field) -> str:
    """Name of a field's feature in records and batches: `hist_item_id`, `cand_item_id`, `user_id`.

    Example:

      >>> feature_name(HISTORY, Field("item_id", (HISTORY, CANDIDATE), "item_id"))
      'hist_item_id'
    """
    # `user_id`, `user_gender` and `context_hour` carry the prefix already.
    prefix = PREFIX[role]
    return field.name if role in OF_ROWS and field.name.startswith(prefix) else prefix + field.name


def recorded(feature: str) -> str:
    """Name of a feature with the ids of the data set, in batches where later ids are unknown ones."""
    return f"recorded_{feature}"


def check_features(features: Mapping, names: Iterable[str], role: str = "") -> None:
    """Raises ValueError unless all names are among the features of a batch, or of a role."""
    if missing := [name for name in names if name not in features]:
        raise ValueError(
            f"expected the {role or 'batch'} features {missing}; got {sorted(features)} alone."
        )


def check_positive(**values: int) -> None:
    """Raises ValueError with the name of the first value that is below 1."""
    for name, value in values.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1; got {value}.")


def negative_name(feature: str) -> str:
    """Name of a history feature's sampled negatives: `hist_item_id` -> `hist_negative_item_id`."""
    return PREFIX[HISTORY] + "negative_" + feature.removeprefix(PREFIX[HISTORY])


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a text file, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Path of a temporary file beside `path`, renamed to it at the end, or removed after an error.

    Whoever reads `path` sees the old file or the whole new one, even when the writer is killed.
    """
    path = pathlib.Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
