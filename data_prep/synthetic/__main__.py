"""Command line of the synthetic log: `python -m data_prep.synthetic --output=/tmp/log.csv --seed=7`."""

import dataclasses
import functools

from absl import flags
from tqdm import tqdm

from data_prep.synthetic.config import PRESETS, SyntheticLog
from data_prep.synthetic.writing import write_log
from dgin_tf.commands import command_line


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
    integer("truth_targets", 1, "Number of each user's last events whose causes are listed.")


def log_from_flags(values: flags.FlagValues) -> SyntheticLog:
    """The preset with what the flags change; the mean length stays the preset's unless a flag sets it.

    Raises:
      ValueError: the flags contradict each other or the model's requirements.
    """
    base = PRESETS[values.preset]
    population = _without_none(
        users=values.users,
        events=values.events,
        shortest=values.min_length,
        longest=values.max_length,
    )
    if values.events is not None and values.mean_length is not None:
        raise ValueError("expected --events or --mean_length; got both, leave one out.")
    mean = values.mean_length or base.population.events / base.population.users
    population.setdefault("events", round(mean * population.get("users", base.population.users)))
    window = _without_none(start=values.window_start, end=values.window_end)
    return dataclasses.replace(
        base,
        population=dataclasses.replace(base.population, **population),
        catalogue=dataclasses.replace(
            base.catalogue, **_without_none(items=values.items, categories=values.categories)
        ),
        window=(window.get("start", base.window[0]), window.get("end", base.window[1])),
    )


def _without_none(**values: int | None) -> dict[str, int]:
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
