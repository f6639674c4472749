"""DIEN and its baselines on Taobao's UserBehavior log, all behavior types as history.

Claim: the order of table 2 on a log with real clicks. The paper has no figures for this log; table 2
of MIMN has BaseModel .8709, DIN .8833 and DIEN without auxiliary loss .9081 under its own protocol.

    python -m data_prep.prepare --dataset=taobao --input=UserBehavior.csv --output_dir=D
    python -m experiments.train --config=experiments/dien/taobao.py:dien --data_dir=D --model_dir=M

Cost: 987,994 users, 4,162,024 items; on two cores about a quarter of an hour for an epoch of DIEN. Dense
Adam would sweep tables of 4.2 million rows at every step, at some hundred times the price of the
row-wise one.

Expected: DIEN above DIN above BaseModel.
"""

import ml_collections

from experiments.running import defaults


def get_config(model: str = "dien") -> ml_collections.ConfigDict:
    """Settings for a model of `dgin_tf.models.registry.MODELS`."""
    config = defaults.get_config(model)
    config.data.max_history = 200
    config.loop.evaluations_per_epoch = 2
    return config
