"""The relevance indicator of ENCODE's table 3 for any trained models of long histories.

    python -m experiments.inspect_relevance --data_dir=D --model_dirs=encode=M1,eta=M2 \\
        --reference_dir=M3

The reference is a `din_long`. Prints each model's cross-entropy against its attention; lower is nearer.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import sys  # noqa: E402
from collections.abc import Mapping  # noqa: E402

import numpy as np  # noqa: E402
from absl import flags  # noqa: E402

from dgin_tf import command_line  # noqa: E402
from dgin_tf.inputs.pipeline import BatchOptions, PreparedData  # noqa: E402
from dgin_tf.inspection import relevance  # noqa: E402
from dgin_tf.records import SPLITS  # noqa: E402
from experiments import runs  # noqa: E402

_DATA_DIR = flags.DEFINE_string("data_dir", None, "Prepared data set.", required=True)
_MODEL_DIRS = flags.DEFINE_list("model_dirs", None, "Runs, NAME=PATH each.", required=True)
_REFERENCE_DIR = flags.DEFINE_string("reference_dir", None, "Run of a din_long.", required=True)
_SPLIT = flags.DEFINE_enum("split", "test", SPLITS, "Whose histories to look at.")
_BATCHES = flags.DEFINE_integer("batches", 8, "Batches to look through.", lower_bound=1)
_ROWS = 64

REFERENCE = "reference"


def indicators(
    model_dirs: Mapping[str, str], reference_dir: str, data: PreparedData, split: str, batches: int
) -> dict[str, float]:
    """Name of a run -> its relevance indicator; under `reference` the entropy of DIN-L's own weights."""
    reference, config = runs.load_model(reference_dir, data)
    loaded = {name: runs.load_model(path, data)[0] for name, path in model_dirs.items()}
    options = BatchOptions(_ROWS, config["data"]["max_history"])
    found: dict[str, list[float]] = {name: [] for name in (REFERENCE, *loaded)}
    for features in data.evaluation(split, options).take(batches):
        mask = features["cand_mask"].numpy()
        wanted = relevance.long_weights(reference, features)
        for name, model in ((REFERENCE, reference), *loaded.items()):
            weights = relevance.long_weights(model, features)
            found[name].append(relevance.relevance_indicator(weights, wanted, mask))
    return {name: float(np.nanmean(values)) for name, values in found.items()}


def main(_: object) -> None:
    """Prints the indicators."""
    named = [value.partition("=") for value in _MODEL_DIRS.value]
    wrong = [name for name, separator, _ in named if not separator]
    if wrong:
        raise ValueError(f"expected runs as NAME=PATH in --model_dirs; got {wrong[0]!r}.")
    data = PreparedData(_DATA_DIR.value)
    model_dirs = {name: path for name, _, path in named}
    found = indicators(model_dirs, _REFERENCE_DIR.value, data, _SPLIT.value, _BATCHES.value)
    sys.stdout.write("".join(f"{name}: {value:.3f}\n" for name, value in found.items()))


if __name__ == "__main__":
    command_line.run(main)
