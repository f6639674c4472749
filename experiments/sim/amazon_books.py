"""SIM and its baselines on Amazon Books: the 10 newest reviews and the 90 before them.

Claim: table 2, AUC DIN .7276 < average pooling .7280 < SIM (soft) .7510; table 3, first stage (soft)
.7342 and (hard) .7365, SIM (hard) .7413.

    python -m data_prep.prepare --dataset=amazon --input=reviews_Books_5.json.gz,meta_Books.json.gz \\
        --form=paper --output_dir=D
    python -m experiments.train --config=experiments/sim/amazon_books.py:sim_soft --data_dir=D \\
        --model_dir=M --seeds=5

Cost: on two cores some minutes for an epoch.

Expected: the order of the table. The paper keeps 75,053 users, whom it does not describe, and has
"no timestamp features", so that it ran no `sim_soft_time`; the reviews do have their day.
"""

import ml_collections

from experiments.sim import variants


def get_config(model: str = "sim_soft") -> ml_collections.ConfigDict:
    """Settings for a model of `dgin_tf.models.registry.MODELS`, with `_time` behind it or not."""
    config = variants.get_config(model, max_history=100, short_events=10)
    config.network.embedding_dim = 4
    config.loop.evaluations_per_epoch = 4
    return config
