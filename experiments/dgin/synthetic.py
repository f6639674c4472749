"""DGIN and its baselines on a synthetic log of all behavior types, with causes deep in the past.

Claim: table 2, SIM < TWIN < DGIN; table 3, every component adds; table 4, all behavior types are
better than clicks alone; table 5, sessions < categories <= items. In this log six events in ten tell
stories of single items: the next click on an item depends on the behavior types of the item's own
history and on the time since (`data_prep.synthetic`).

    python -m data_prep.synthetic --output=log.csv --preset=lifelong --seed=7
    python -m data_prep.prepare --dataset=taobao --input=log.csv --output_dir=D \\
        --protocol=multi_behavior --targets_per_user=10 --negatives=4 --own_negatives=.5
    python -m experiments.train --config=experiments/dgin/synthetic.py:dgin --data_dir=D \\
        --model_dir=M --seeds=5

`:dgin` is a row of `experiments.dgin.variants.ROWS` or any model of
`dgin_tf.models.registry.MODELS`. Half of the negatives are items of the same user's past, so that
a past event alone does not tell positives from negatives.

Cost: 23,800 rows of five candidates an epoch; on one core of an AMD EPYC DGIN took two minutes an epoch with
300 groups at most, by category four and a half. All groups are kept now: three users in ten have more.

Expected (with 300 groups): TWIN .731 and SIM .743 < DGIN .832; identity alone .613 < with statistics .658 < with the
aggregated attribute .815 < with the target module .832; clicks alone .820 (five seeds); by category
.806 and DSIN .618 (five), by session .528 (two). SIM < TWIN did not hold, see experiments/results.
"""

import ml_collections

from experiments.dgin import variants


def get_config(model: str = "dgin") -> ml_collections.ConfigDict:
    """Settings for a row, see above."""
    config = variants.get_config(model, max_history=1_000, short_events=50)
    config.network.user_fields = ()  # the split is by user
    variants.start_attending(config)
    config.data.batch_rows = 128
    config.optimizer.learning_rate = 2e-3
    if "softmax" in config.model:
        config.model.softmax = True  # weights over hundreds of events have to add up to one
    return config
