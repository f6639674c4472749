"""The relevance indicator of table 3 for trained runs."""

from collections.abc import Mapping

import numpy as np

from dgin_tf.inputs.pipeline import BatchOptions, PreparedData
from dgin_tf.inspection.relevance import long_weights, relevance_indicator
from experiments.running import runs

REFERENCE = "reference"
_ROWS = 64


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
        wanted = long_weights(reference, features)
        for name, model in ((REFERENCE, reference), *loaded.items()):
            weights = long_weights(model, features)
            found[name].append(relevance_indicator(weights, wanted, mask))
    return {name: float(np.nanmean(values)) for name, values in found.items()}
