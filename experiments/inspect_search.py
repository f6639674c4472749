"""Compares the events that search units of trained models retrieve, and writes a report.

    python -m experiments.inspect_search --data_dir=D --model_dirs=hard=M1,soft=M2,eta=M3 \\
        --reference_dir=M4 --output_dir=O

The reference is a `din_long`: the events of its highest attention count as relevant. Writes `O/search.json` and `O/report.html`.
"""

import sys

from absl import flags

from dgin_tf.commands import command_line
from dgin_tf.inputs.pipeline import PreparedData
from dgin_tf.inspection import plots
from dgin_tf.inspection.report import REPORT_FILE, Report
from dgin_tf.ownership import claim
from dgin_tf.records import SPLITS
from experiments.analysis import searches
from experiments.running import run_names, runs

_DATA_DIR = flags.DEFINE_string("data_dir", None, "Prepared data set.", required=True)
_MODEL_DIRS = flags.DEFINE_list("model_dirs", None, "Runs, NAME=PATH each.", required=True)
_REFERENCE_DIR = flags.DEFINE_string("reference_dir", None, "Run of a din_long.", required=True)
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Where the report goes.", required=True)
_SPLIT = flags.DEFINE_enum("split", "test", SPLITS, "Whose histories to look at.")
_BATCHES = flags.DEFINE_integer("batches", 8, "Batches to read.", lower_bound=1)
_K = flags.DEFINE_integer("k", 50, "Events of the highest attention that count.", 1)


def main(_: object) -> None:
    """Compares, writes the report and prints its path."""
    model_dirs = run_names.named(_MODEL_DIRS.value)
    data = PreparedData(_DATA_DIR.value)
    names = ["search.json", REPORT_FILE]
    folder = claim(_OUTPUT_DIR.value, "a comparison of search units", names)
    with data.naming_damage():
        comparison = searches.compare_units(
            model_dirs, _REFERENCE_DIR.value, data, _SPLIT.value, _BATCHES.value, _K.value
        )
    runs.write_json(folder / "search.json", {**comparison, "versions": runs.versions()})
    report = Report("Events that search units retrieve")
    report.section(
        "Against full target attention",
        f"recall: share of the {_K.value} events of the highest attention that the unit retrieves; "
        "attention: share of the attention on its events; found: events a candidate.",
    )
    columns = ("recall", "attention", "found")
    rows = [[name, *(unit[c] for c in columns)] for name, unit in comparison["recall"].items()]
    report.table(["unit", *columns], rows)
    report.picture(
        plots.search_recall(comparison["recall"]),
        "What each unit retrieves of what full target attention looks at: of its events of highest "
        "attention, and of its attention. A unit that retrieves more events has more of both.",
    )
    report.section(
        "Against each other", "Share of the events of the column's unit that the row's has too."
    )
    names = list(
        model_dirs
    )  # not symmetric: the row's unit may retrieve more events than the column's
    report.table(
        ["unit", *names],
        [[name, *(comparison["overlap"][name][other] for other in names)] for name in names],
    )
    sys.stdout.write(f"{report.save(folder)}\n")


if __name__ == "__main__":
    command_line.run(main)
