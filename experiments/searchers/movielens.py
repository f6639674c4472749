"""ETA, SDIM, TWIN and UBR4CTR on MovieLens-1M, on the fixed examples of `experiments/dien/movielens.py`.

Claim: searching a history of a few hundred events keeps what attention over all of it finds; ETA, SDIM
and TWIN come out within a hundredth of each other.

    python -m experiments.train --config=experiments/searchers/movielens.py:twin --data_dir=D \\
        --model_dir=M

`:twin` is one of eta, sdim, twin, ubr4ctr. Preparation as in `experiments/dien/movielens.py`.

Cost: 67,923 rows of two candidates a pass, ten to twenty seconds on two cores; validation stops after
four or five passes.

Expected test AUC with negatives drawn uniformly, one seed: ETA .905, SDIM .904, TWIN .907, UBR4CTR
.902. LongCTR has ETA .888, SDIM .887 and TWIN .889 on the same examples.
"""

import ml_collections

from experiments import defaults


def get_config(model: str = "twin") -> ml_collections.ConfigDict:
    """Settings for a model of `dgin_tf.models.registry.MODELS`."""
    config = defaults.get_config(model)
    config.data.batch_rows = 128  # 256 samples
    config.data.max_history = 200
    config.model.short_events = 16  # histories have a hundred events in the mean
    config.loop.passes = 6
    config.loop.patience = 1
    config.optimizer.learning_rate = 2e-3
    return config
