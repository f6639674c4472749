"""SIM and its baselines on Taobao's UserBehavior log: 100 newest clicks and 400 before them.

Claim: table 2, AUC DIN .9214 < average pooling .9281 < SIM (soft) .9416 < SIM (soft) with time .9501;
table 3, SIM (hard) .9332 and first stages between those.

    python -m data_prep.prepare --dataset=taobao --input=UserBehavior.csv --output_dir=D
    python -m experiments.train --config=experiments/sim/taobao.py:sim_soft_time --data_dir=D \\
        --model_dir=M

`:sim_soft_time` is any model of `dgin_tf.models.registry.MODELS`, with `_time` behind it for time
gaps.

Cost: 987,994 users; on two cores about twenty minutes for an epoch of soft search, ten for hard search,
estimated from MovieLens by the events read.

Expected: the order of the tables, not their figures. The paper's log is another one, of 7,956,431
users, and only clicks; the public one holds all behavior types here.
"""

import ml_collections

from experiments.sim import variants


def get_config(model: str = "sim_soft") -> ml_collections.ConfigDict:
    """Settings for a model, see above."""
    config = variants.get_config(model, max_history=500, short_events=100)
    config.network.embedding_dim = 4
    config.loop.evaluations_per_epoch = 2
    return config
