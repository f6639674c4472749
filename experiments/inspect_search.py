"""Compares what the search units of trained models find, and writes a report.

    python -m experiments.inspect_search --data_dir=D --model_dirs=hard=M1,soft=M2,eta=M3 \\
        --reference_dir=M4 --output_dir=O

The reference is a `din_long`, whose attention over the whole history says what was worth finding.
Writes `O/search.json` and `O/report.html`.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import pathlib  # noqa: E402
import sys  # noqa: E402

import numpy as np  # noqa: E402
from absl import flags  # noqa: E402

from dgin_tf import command_line  # noqa: E402
from dgin_tf.inputs.pipeline import BatchOptions, PreparedData  # noqa: E402
from dgin_tf.inspection import plots, searches, traces  # noqa: E402
from dgin_tf.inspection.report import Report  # noqa: E402
from dgin_tf.records import SPLITS  # noqa: E402
from experiments import runs  # noqa: E402

_DATA_DIR = flags.DEFINE_string("data_dir", None, "Prepared data set.", required=True)
_MODEL_DIRS = flags.DEFINE_list("model_dirs", None, "Runs, NAME=PATH each.", required=True)
_REFERENCE_DIR = flags.DEFINE_string("reference_dir", None, "Run of a din_long.", required=True)
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Where the report goes.", required=True)
_SPLIT = flags.DEFINE_enum("split", "test", SPLITS, "Whose histories to look at.")
_BATCHES = flags.DEFINE_integer("batches", 8, "Batches to look through.", lower_bound=1)
_K = flags.DEFINE_integer("k", 50, "How many of the attention's favourites to ask for.", 1)


def compare(
    model_dirs: dict[str, str],
    reference_dir: str,
    data: PreparedData,
    split: str,
    batches: int,
    k: int,
) -> dict[str, dict[str, dict[str, float]]]:
    """Overlap of the units, and their recall of full target attention.

    Args:
      model_dirs: name -> run of a model with a search unit.
      reference_dir: run of a `din_long`.
      data: what they were trained on.
      split: whose histories.
      batches: how many batches to look through.
      k: how many favourites of the attention are asked for.

    Returns:
      `overlap` and `recall`, as the functions of `dgin_tf.inspection.searches` give them.

    Raises:
      ValueError: a model searches nothing, or the reference does not attend to everything.
    """
    reference, config = runs.load_model(reference_dir, data)
    options = BatchOptions(config["evaluation_rows"], config["data"]["max_history"])
    chosen = list(data.evaluation(split, options).take(batches))
    attention = [searches.long_attention(traces.trace(reference, batch)) for batch in chosen]
    width = max(part.shape[2] for part in attention)
    found = {}
    for name, path in model_dirs.items():
        model, _ = runs.load_model(path, data)
        parts = [searches.found_events(traces.trace(model, batch)) for batch in chosen]
        found[name] = np.concatenate([_padded(part, width) for part in parts])
    joined = np.concatenate([_padded(part, width) for part in attention])
    return {
        "overlap": searches.overlap(found),
        "recall": searches.recall(found, joined, k),
    }


def _padded(part, width):
    return np.pad(part, [(0, 0), (0, 0), (0, width - part.shape[2])])


def main(_: object) -> None:
    """Compares, writes the report and says where it is."""
    model_dirs = dict(_named(value) for value in _MODEL_DIRS.value)
    data, folder = PreparedData(_DATA_DIR.value), pathlib.Path(_OUTPUT_DIR.value)
    found = compare(model_dirs, _REFERENCE_DIR.value, data, _SPLIT.value, _BATCHES.value, _K.value)
    folder.mkdir(parents=True, exist_ok=True)
    runs.write_json(folder / "search.json", found)
    report = Report("What search units find")
    report.section(
        "Against full target attention",
        f"recall: share of the attention's {_K.value} favourites that the unit found; attention: "
        "share of the attention on what it found; found: events a candidate.",
    )
    columns = ("recall", "attention", "found")
    rows = [[name, *(unit[c] for c in columns)] for name, unit in found["recall"].items()]
    report.table(["unit", *columns], rows)
    report.picture(plots.search_recall(found["recall"]))
    report.section(
        "Against each other", "Share of what the column's unit found that the row's did."
    )
    names = list(model_dirs)
    report.table(
        ["unit", *names],
        [[name, *(found["overlap"][name][other] for other in names)] for name in names],
    )
    sys.stdout.write(f"{report.save(folder)}\n")


def _named(value):
    name, separator, path = value.partition("=")
    if not separator:
        raise ValueError(f"expected runs as NAME=PATH in --model_dirs; got {value!r}.")
    return name, path


if __name__ == "__main__":
    command_line.run(main)
