"""Prints the reach of models of long histories, and the recall of ALSH indexes of soft searches.

    python -m experiments.inspect_reach --data_dir=D --model_dir=din=M1,sim_soft=M2

First figure 4 and table 6 of the SIM paper: days since the last event of the category that each model
ranks first, and of the categories that users clicked. Then, for every run of soft search, the recall of
its index by the number of tables.
"""

import sys

from absl import flags

from dgin_tf.commands import command_line
from dgin_tf.inputs.pipeline import PreparedData
from dgin_tf.inspection import returns
from dgin_tf.records import SPLITS
from experiments.analysis import searches

_DATA_DIR = flags.DEFINE_string("data_dir", None, "Prepared data set.", required=True)
_MODEL_DIR = flags.DEFINE_list("model_dir", None, "Runs, PATH or NAME=PATH each.", required=True)
_SPLIT = flags.DEFINE_enum("split", "test", SPLITS, "Whose candidates to rank.")
_MAX_HISTORY = flags.DEFINE_integer("max_history", 1000, "Events to look back.", lower_bound=1)
_TABLES = flags.DEFINE_list("tables", ["8", "32", "128"], "Numbers of tables to try.")


def main(_: object) -> None:
    """Prints a line for every model, and for every index."""
    data = PreparedData(_DATA_DIR.value)
    with data.naming_damage():
        _inspect(data)


def _inspect(data: PreparedData) -> None:
    models = searches.load(_MODEL_DIR.value, data)
    days = searches.days_since_category(models, data, _SPLIT.value, _MAX_HISTORY.value)
    for name, values in days.items():
        statistics, shares = returns.summarize(values), returns.distribution(values)
        sys.stdout.write(
            f"{name}: {statistics.samples} samples, mean {statistics.mean:.1f} days, p(> -1) "
            f"{statistics.share:.3f}, 14 days or more {statistics.long_term:.3f}; never and by days "
            f"{' '.join(f'{share:.3f}' for share in shares)}\n"
        )
    for name, run in models.items():
        if run[1]["model"]["name"].startswith("sim_soft"):
            indexes = searches.index_recall(run, data, [int(count) for count in _TABLES.value])
            for tables, (recall, share) in indexes.items():
                sys.stdout.write(
                    f"{name}, {tables} tables: recall {recall:.3f}, read {share:.3f}\n"
                )


if __name__ == "__main__":
    command_line.run(main)
