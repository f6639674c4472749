"""Relevance indicators of trained runs (ENCODE, Zhou et al., 2024, table 3)."""

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
    """Name of a run -> its relevance indicator; under `reference` the entropy of DIN-L's own weights.

    Args:
      model_dirs: name -> run.
      reference_dir: run of a `din_long`.
      data: the data set that they were trained on.
      split: name of the split.
      batches: number of batches to read.
    """
    reference, config = runs.load_model(reference_dir, data)
    models = {name: runs.load_model(path, data)[0] for name, path in model_dirs.items()}
    options = BatchOptions(_ROWS, config["data"]["max_history"])
    indicators_of: dict[str, list[float]] = {name: [] for name in (REFERENCE, *models)}
    for features in data.evaluation(split, options).take(batches):
        mask = features["cand_mask"].numpy()
        reference_weights = long_weights(reference, features)  # [users, candidates, time]
        for name, model in ((REFERENCE, reference), *models.items()):
            weights = long_weights(model, features)
            indicators_of[name].append(relevance_indicator(weights, reference_weights, mask))
    # NaN for batches without a long history.
    return {name: float(np.nanmean(values)) for name, values in indicators_of.items()}
