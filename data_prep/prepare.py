"""Prepares a raw log for training: `python -m data_prep.prepare --dataset=taobao --input=... ...`.

Writes `schema.json`, `vocabulary/`, `catalogue.npz`, the records of train, validation and test,
`data_card.json` with `report.html`, `quarantine.csv.gz`, and `manifest.json` last. A run that was
killed is resumed by the same command.
"""

import os
import time

from absl import flags, logging

from data_prep import reader_flags
from data_prep.engines.local import LocalEngine
from data_prep.events import SPLIT
from data_prep.id_policy import VocabularyOptions
from data_prep.pipeline import Preparation, prepare, work_folder
from data_prep.protocol import (
    GIVEN,
    IMPRESSIONS,
    LAST_EVENT,
    LAST_TIME,
    MULTI_BEHAVIOR,
    PAPER,
    POPULARITY,
    PROTOCOLS,
    STRICT,
    TIME,
    UNIFORM,
    USER,
    Limits,
    Protocol,
    make_protocol,
)
from data_prep.readers import Reader
from dgin_tf.commands import command_line

flags.adopt_module_key_flags(reader_flags)  # --help lists them too
_OUTPUT_DIR = flags.DEFINE_string(
    "output_dir", None, "Folder of the prepared data set.", required=True
)

_PROTOCOL = flags.DEFINE_enum("protocol", LAST_EVENT, PROTOCOLS, "Rules of the examples.")
_EXAMPLES = flags.DEFINE_string(
    "examples", "", "File of fixed examples, for --protocol=examples_file."
)
_FORM = flags.DEFINE_enum(
    "form", STRICT, [STRICT, PAPER], "No leaks, or the quirks of the papers' code."
)
_POSITIVE_TYPES = flags.DEFINE_list(
    "positive_types",
    [],
    "multi_behavior: behavior types that are clicks; default the log's first one. every_event: behavior "
    "types of positives, all others being negatives; default all, against sampled negatives.",
)
_HISTORY_TYPES = flags.DEFINE_list(
    "history_types",
    [],
    "impressions: behavior types of past events; default clicked impressions, or all of --behaviors.",
)
_NEGATIVES = flags.DEFINE_integer(
    "negatives", None, "Negatives for each positive; default 1, in multi_behavior's paper form 99."
)
_NEGATIVE_DISTRIBUTION = flags.DEFINE_enum(
    "negative_distribution", UNIFORM, [UNIFORM, POPULARITY], "Over the training vocabulary."
)
_OWN_NEGATIVES = flags.DEFINE_float(
    "own_negatives",
    None,
    "multi_behavior: share of the negatives drawn from items that the user had and does not come back to.",
)
_SPLIT_BY = flags.DEFINE_enum(
    "split_by",
    None,
    [USER, TIME, LAST_TIME, GIVEN],
    "Difference between train and test: users, the targets' time, or users by the time of their last "
    "target; default user, for every_event and impressions time, given where there is a --split_column.",
)
_FRACTIONS = flags.DEFINE_list(
    "fractions",
    None,
    "Train, validation, test: of users, or of events by time; default 0.8,0.1,0.1, for every_event "
    "0.72,0.08,0.2.",
)
_TIME_CUTS = flags.DEFINE_list(
    "time_cuts", [], "Seconds at which validation and test begin, instead of --fractions."
)
_TARGETS_PER_USER = flags.DEFINE_integer(
    "targets_per_user", 1, "Number of targets, the newest events."
)
_TARGETS_FROM = flags.DEFINE_integer(
    "targets_from",
    0,
    "Second from which on events are targets; earlier ones are histories alone. For examples of one day.",
    0,
)
_MIN_HISTORY = flags.DEFINE_integer(
    "min_history", None, "Events that a target needs before it; default 1, for impressions 0."
)
_MAX_HISTORY = flags.DEFINE_integer(
    "max_history", 0, "Events stored before a user's first target; 0 stores all."
)
_WHOLE_HISTORIES = flags.DEFINE_boolean(
    "whole_histories",
    True,
    "Also write what every user did behind the newest record, so that indexes, states and scores of new rows "
    "are made of all events.",
)
_VOCABULARY_FROM = flags.DEFINE_string(
    "vocabulary_from",
    "",
    "Folder of a prepared data set, such as yesterday's: its ids stay, and new values get the ids behind them.",
)
_MIN_COUNT = flags.DEFINE_integer(
    "min_count", 1, "Training events that an item, category or word needs for an id of its own.", 1
)
_HASH_BUCKETS = flags.DEFINE_integer(
    "hash_buckets", 0, "Ids that rarer ones share, by a hash; 0: they are all unknown.", 0
)
_SEED = flags.DEFINE_integer("seed", 1, "Of splits and negatives.")
_WORKERS = flags.DEFINE_integer(
    "workers", 0, "Processes; 0 is one a core. The output does not depend on it."
)
_MEMORY_MB = flags.DEFINE_integer("memory_mb", 512, "Memory of one worker for one bucket.")
_BUCKETS = flags.DEFINE_integer("buckets", 0, "User buckets; 0 derives them from --memory_mb.")
_PROGRESS = flags.DEFINE_boolean("progress", True, "Draw progress bars.")


def protocol_from_flags(reader: Reader) -> Protocol:
    """The protocol of the flags, for a log with the reader's behavior types."""
    positive_types = tuple(_POSITIVE_TYPES.value)
    if _PROTOCOL.value == MULTI_BEHAVIOR:
        # Readers list the click first: pv, like.
        positive_types = positive_types or reader.behavior_types[:1]
        if not positive_types:
            raise ValueError(
                f"protocol {MULTI_BEHAVIOR} needs a log with several behavior types; "
                f"--dataset={reader_flags.DATASET.value} has one. Use --protocol={LAST_EVENT}."
            )
    split_by = _SPLIT_BY.value
    if _PROTOCOL.value == IMPRESSIONS and SPLIT in reader.impression_columns:
        split_by = split_by or GIVEN
    return make_protocol(
        _PROTOCOL.value,
        _FORM.value,
        positive_types=positive_types,
        negatives=_NEGATIVES.value,
        negative_distribution=_NEGATIVE_DISTRIBUTION.value,
        own_negatives=_OWN_NEGATIVES.value,
        targets_per_user=_TARGETS_PER_USER.value,
        min_history=_MIN_HISTORY.value,
        max_history=_MAX_HISTORY.value,
        split_by=split_by,
        fractions=None if _FRACTIONS.value is None else _fractions(_FRACTIONS.value),
        time_cuts=reader_flags.integers("time_cuts", _TIME_CUTS.value, 2),
        history_types=tuple(_HISTORY_TYPES.value),
        targets_from=_TARGETS_FROM.value,
    )


def preparation_from_flags() -> Preparation:
    """The preparation that the flags describe."""
    reader = reader_flags.make_reader()
    limits = Limits(
        buckets=_BUCKETS.value,
        memory_mb=_MEMORY_MB.value,
        max_bad_fraction=reader_flags.MAX_BAD_FRACTION.value,
        behavior_types=tuple(reader_flags.BEHAVIOR_TYPES.value),
    )
    return Preparation(
        reader,
        protocol_from_flags(reader),
        limits,
        _SEED.value,
        _EXAMPLES.value,
        _WHOLE_HISTORIES.value,
        VocabularyOptions(_VOCABULARY_FROM.value, _MIN_COUNT.value, _HASH_BUCKETS.value),
    )


def main(_: object) -> None:
    """Prepares a data set as the flags say."""
    began = time.monotonic()
    if _VOCABULARY_FROM.value and os.path.realpath(_VOCABULARY_FROM.value) == os.path.realpath(
        _OUTPUT_DIR.value
    ):
        raise ValueError(
            "expected --vocabulary_from to be another folder than --output_dir, which is replaced; got "
            f"{_OUTPUT_DIR.value!r} for both."
        )
    preparation = preparation_from_flags()
    engine = LocalEngine(
        work_folder(_OUTPUT_DIR.value),
        workers=_WORKERS.value or len(os.sched_getaffinity(0)),
        progress=_PROGRESS.value,
    )
    card = prepare(preparation, _OUTPUT_DIR.value, engine)
    seconds = time.monotonic() - began
    for name, counts in card.get("vocabulary_from", {}).items():
        logging.info("%s: %s ids kept, %s new", name, f"{counts['kept']:,}", f"{counts['new']:,}")
    rows = card["partition"]["lines"]
    logging.info(
        "%s rows, %s users, %s in %.1f s (%s rows/s); see %s",
        f"{rows:,}",
        f"{card['histories']['users']:,}",
        ", ".join(f"{split['rows']:,} {name} rows" for name, split in card["splits"].items()),
        seconds,
        f"{rows / seconds:,.0f}",
        os.path.join(_OUTPUT_DIR.value, "report.html"),
    )


def _fractions(values: list[str]) -> tuple[float, float, float]:
    try:
        train, validation, test = (float(value) for value in values)
    except ValueError:
        raise ValueError(
            f"expected --fractions=TRAIN,VALIDATION,TEST, got {','.join(values)!r}."
        ) from None
    return train, validation, test


if __name__ == "__main__":
    command_line.run(main)
