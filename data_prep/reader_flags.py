"""Flags that name a log and say how it is read, shared by the commands that read one."""

from absl import flags

from data_prep.readers import READERS, Reader, times
from data_prep.readers.movielens import GENRE_CHOICES
from data_prep.readers.side_files import by_pattern

FLAGS = flags.FLAGS
DATASET = flags.DEFINE_enum("dataset", None, sorted(READERS), "Layout of the log.", required=True)
_INPUT = flags.DEFINE_list(
    "input",
    None,
    "Files of the log, and its side files if it has any; a folder, or a pattern such as 'day-*.csv'.",
)
BEHAVIOR_TYPES = flags.DEFINE_list("behavior_types", [], "Behavior types to keep; default all.")
MAX_BAD_FRACTION = flags.DEFINE_float(
    "max_bad_fraction", 0.01, "More unreadable rows than this are an error."
)

# Options of single readers, by the names under which readers look them up.
_TIME_WINDOW = flags.DEFINE_list(
    "time_window", [], "taobao: first and last second of an event; others are quarantined."
)
_MIN_RATING = flags.DEFINE_float(
    "min_rating", None, "movielens, amazon, table: ratings below are no events; default all are."
)
_LIKE_RATING = flags.DEFINE_float(
    "like_rating", None, "movielens: ratings from this on are of type like, others of type dislike."
)
_GENRES = flags.DEFINE_enum(
    "genres",
    None,
    GENRE_CHOICES,
    "movielens: the first genre as the category alone, which is the default and that of the papers' "
    "configs, or all genres as a column of movies besides.",
)
# Files by what they are, whatever they are called.
_RATINGS = flags.DEFINE_list("ratings", [], "movielens: files of ratings, in the place of --input.")
_SIDE_FILES = (
    flags.DEFINE_string("movies", "", "movielens: file of the movies; default beside the ratings."),
    flags.DEFINE_string("users", "", "movielens: file of the users; default beside the ratings."),
    flags.DEFINE_string("meta", "", "amazon: file of the metadata; default beside the reviews."),
)
_TABLE_OPTIONS = (
    flags.DEFINE_string("user_column", "", "table: default user_id."),
    flags.DEFINE_string("item_column", "", "table: default item_id."),
    flags.DEFINE_string("time_column", "", "table: default timestamp."),
    flags.DEFINE_string("category_column", "", "table: of the log or the item table, if any."),
    flags.DEFINE_string("behavior_column", "", "table: behavior type, if there are several."),
    flags.DEFINE_list("behavior_names", [], "table: all values of the behavior column."),
    flags.DEFINE_list(
        "side_feature_columns",
        [],
        "table: side features, words that events have beside the behavior type, NAME=COLUMN each, such "
        "as location=city; empty cells are unknown words.",
    ),
    flags.DEFINE_list(
        "numeric_columns",
        [],
        "table: numeric features, non-negative numbers that events have, NAME=COLUMN each, such as "
        "dwell=seconds,paid_price=price; empty cells are unknown numbers.",
    ),
    flags.DEFINE_string(
        "label_column",
        "",
        "table: label of impressions, 0 or 1, for --protocol=impressions.",
    ),
    flags.DEFINE_float(
        "label_threshold", None, "table: labels from this number on count as 1; default none."
    ),
    flags.DEFINE_string(
        "request_column", "", "table: request, page or session that impressions belong to."
    ),
    flags.DEFINE_string(
        "split_column", "", "table: split of impressions: train, validation or test."
    ),
    flags.DEFINE_string(
        "weight_column", "", "table: weights of the losses of impressions, not negative."
    ),
    flags.DEFINE_float(
        "negative_rate",
        None,
        "table: share of ignored impressions that the log kept, for the calibrated log loss of evaluate.",
    ),
    flags.DEFINE_string("negative_rate_column", "", "table: the same, impression by impression."),
    flags.DEFINE_string("behaviors", "", "table: past events beside a table of impressions."),
    flags.DEFINE_string("rating_column", "", "table: ratings, for --min_rating."),
    flags.DEFINE_list(
        "columns",
        [],
        "table: all columns of a log without a line of names, such as user,item,rating,time; _ for those "
        "that are not read.",
    ),
    flags.DEFINE_list(
        "item_columns", [], "table: the same of an item table without a line of names."
    ),
    flags.DEFINE_string("encoding", "", "table: of text; default utf-8."),
    flags.DEFINE_string("item_table", "", "table: a table item -> category."),
    flags.DEFINE_string(
        "columns_file",
        "",
        "table: YAML or JSON file that declares columns of users, requests, items and events; "
        "python -m data_prep.infer proposes one.",
    ),
    flags.DEFINE_string("separator", "", "table: characters, tab or space; default what fits."),
    flags.DEFINE_enum(
        "time_unit",
        times.AUTO,
        times.TIME_UNITS,
        "table: unit of the times; auto tells it by the values, index is a clock that only counts.",
    ),
    flags.DEFINE_enum(
        "ties",
        "",
        ["", "file", "item"],
        "table: order of a user's events of one time: of the file, the default, or by item.",
    ),
    flags.DEFINE_string("id_type", "", "table: auto, integer or word; default auto."),
)


def reader_options() -> dict[str, object]:
    """Options of the reader: its flags that are set."""
    # Readers take the options that they know and ignore the others.
    options: dict[str, object] = {
        **{flag.name: flag.value for flag in _SIDE_FILES},
        "time_window": integers("time_window", _TIME_WINDOW.value, 2),
        "min_rating": _MIN_RATING.value,
        "like_rating": _LIKE_RATING.value,
        "genres": _GENRES.value,
    }
    if DATASET.value == "longctr":
        options |= {"label_column": FLAGS.label_column, "label_threshold": FLAGS.label_threshold}
    if DATASET.value == "table":
        options |= {flag.name: flag.value for flag in _TABLE_OPTIONS}
    return {name: value for name, value in options.items() if value not in (None, "", (), [])}


def make_reader() -> Reader:
    """The reader of the flags."""
    paths = [*(_INPUT.value or []), *_RATINGS.value]
    if not paths:
        raise ValueError(
            "expected --input=FILE[,FILE], or --ratings=FILE with --dataset=movielens."
        )
    return READERS[DATASET.value](by_pattern(paths), reader_options())


def integers(name: str, values: list[str], count: int) -> tuple[int, ...]:
    """The value of a flag that is no or `count` integers; raises ValueError where it is not."""
    try:
        numbers = tuple(int(value) for value in values)
    except ValueError:
        numbers = ()
    if len(numbers) != len(values) or len(numbers) not in (0, count):
        raise ValueError(f"expected --{name} to be {count} integers, got {','.join(values)!r}.")
    return numbers
