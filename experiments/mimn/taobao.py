"""MIMN and its baselines on Taobao's UserBehavior log, histories of 200 events.

Claim: table 2, AUC Embedding&MLP .8709 < DIN .8833 < GRU4Rec .9006 < RUM .9018 < ARNN .9066 < DIEN
.9081 < MIMN .9179; table 3, 4 slots .9046 < 6 slots .9052 < 8 slots .9070; table 4, regularization of
the use .9112 and the induction unit .9179 on top of that.

    python -m data_prep.prepare --dataset=taobao --input=UserBehavior.csv --output_dir=D
    python -m experiments.train --config=experiments/mimn/taobao.py:mimn --data_dir=D --model_dir=M \\
        --seeds=3

`:mimn` is any model of `dgin_tf.models.registry.MODELS` or a row of `experiments.mimn.variants`. The
paper's DIEN has no auxiliary loss, which here is `augru`.

Cost: 987,994 users; not measured.

Expected: the order of the tables, not their figures. The paper's history is clicks alone, while its
released code takes all behavior types, as the log here does, and appends the candidate to the
history, which nothing here does.
"""

import ml_collections

from experiments.mimn import variants


def get_config(model: str = "mimn") -> ml_collections.ConfigDict:
    """Settings for a model, see above."""
    config = variants.get_config(model, max_history=200)
    config.data.batch_rows = 256  # the released code's
    config.loop.evaluations_per_epoch = 2
    return config
