"""MIMN and its baselines on Amazon Books, histories of 20 to 100 reviews.

Claim: table 2, AUC Embedding&MLP .7367 < GRU4Rec .7411 < DIN .7419 < ARNN .7420 < RUM .7428 < DIEN
.7481 < MIMN .7593; table 3, 8 slots .7486 < 6 slots .7503 < 4 slots .7522; table 4, regularization of
the use .7551 and the induction unit .7593 on top of 8 slots.

    python -m data_prep.prepare --dataset=amazon --input=reviews_Books_5.json.gz,meta_Books.json.gz \\
        --form=paper --output_dir=D
    python -m experiments.train --config=experiments/mimn/amazon_books.py:mimn --data_dir=D \\
        --model_dir=M --seeds=3

`:mimn` is any model of `dgin_tf.models.registry.MODELS` or a row of `experiments.mimn.variants`. The
paper's DIEN has no auxiliary loss, which here is `augru`.

Cost: the paper has 150,016 instances; not measured.

Expected: the order of the tables. The paper drops users with fewer than 20 reviews and keeps 75,053;
users with shorter histories are in the data here, which makes the figures incomparable.
"""

import ml_collections

from experiments.mimn import variants


def get_config(model: str = "mimn") -> ml_collections.ConfigDict:
    """Settings for a model, see above."""
    config = variants.get_config(model, max_history=100)
    config.data.batch_rows = 128  # the released code's
    config.loop.evaluations_per_epoch = 4
    return config
