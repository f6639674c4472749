"""SIM and its baselines on a synthetic log of 5,000 clicks, of which the newest 50 are the short part.

Claim: as for `synthetic_500`.

    python -m data_prep.synthetic --output=log.csv --preset=deep_5000 --seed=7
    python -m data_prep.prepare --dataset=taobao --input=log.csv --output_dir=D \\
        --targets_per_user=20 --negative_distribution=popularity
    python -m experiments.train --config=experiments/sim/synthetic_5000.py:sim_soft --data_dir=D \\
        --model_dir=M --seeds=5

Cost: 30,060 rows of two candidates an epoch; ten times the work of `synthetic_500` a row for all but
hard search.

Expected: of the targets that have causes, 66% have none among the newest 50 events, and 50% none among
the newest 200.
"""

import ml_collections

from experiments.sim import synthetic_500


def get_config(model: str = "sim_soft") -> ml_collections.ConfigDict:
    """Settings for a model of `dgin_tf.models.registry.MODELS`, with `_time` behind it or not."""
    return synthetic_500.get_config(model, max_history=5_000)
