"""MIMN and its baselines on the newest 200 clicks of a synthetic log in which interests come back.

Claim: Embedding&MLP < DIN < MIMN, and GRU4Rec < MIMN.

    python -m data_prep.synthetic --output=log.csv --preset=deep_500 --seed=7
    python -m data_prep.prepare --dataset=taobao --input=log.csv --output_dir=D \\
        --targets_per_user=10 --negative_distribution=popularity
    python -m experiments.train --config=experiments/mimn/synthetic_200.py:mimn --data_dir=D \\
        --model_dir=M --seeds=5

`:mimn` is any model of `dgin_tf.models.registry.MODELS` or a row of `experiments.mimn.variants`.

Cost: 39,470 rows of two candidates an epoch; on one core half a minute for MIMN.

Expected: a user comes back to one of some dozens of topics, each after a period of its own;
DIN, which looks at the events with the candidate in hand, had .903, MIMN and the other memories .67.
"""

import ml_collections

from experiments.mimn import movielens


def get_config(model: str = "mimn") -> ml_collections.ConfigDict:
    """Settings for a model, trained as on MovieLens."""
    return movielens.get_config(model, max_history=200)
