"""MIMN and its baselines on the newest 1,000 of 5,000 synthetic clicks; otherwise `synthetic_200`.

Claim: that of `synthetic_200`, with more that a state has to hold.

    python -m data_prep.synthetic --output=log.csv --preset=deep_5000 --seed=7
    python -m data_prep.prepare --dataset=taobao --input=log.csv --output_dir=D \\
        --targets_per_user=20 --negative_distribution=popularity
    python -m experiments.train --config=experiments/mimn/synthetic_1000.py:mimn --data_dir=D \\
        --model_dir=M --seeds=5

Cost: 30,000 rows of two candidates an epoch; on one core of an AMD EPYC 12 minutes a run of MIMN.

Expected: as for `synthetic_200`; here a state sees more topics than it has slots for. Three seeds gave
DIN .923, GRU4Rec .673, Embedding&MLP .663, MIMN .651.
"""

import ml_collections

from experiments.mimn import movielens


def get_config(model: str = "mimn") -> ml_collections.ConfigDict:
    """Settings for a model, trained as on MovieLens."""
    config = movielens.get_config(model, max_history=1_000)
    config.network.momentum = 0.9  # of moving averages, which lag behind the head's input here
    return config
