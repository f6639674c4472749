"""DIEN and its baselines on Amazon Books (2014, 5-core), as in tables 2 and 4 of the paper.

Claim: table 2, AUC BaseModel .8846 < PNN .8935 < DIN .8974 < two-layer GRU attention .8993 < DIEN
.9281, five runs each.

    python -m data_prep.prepare --dataset=amazon --input=reviews_Books_5.json.gz,meta_Books.json.gz \\
        --form=paper --output_dir=D
    python -m experiments.train --config=experiments/dien/amazon_books.py:dien --data_dir=D \\
        --model_dir=M --seeds=5

`--form=paper` is the authors' way: only the last review of a user against one sampled negative, nine
in ten users for training. Without it the split is strict.

Cost: 603,668 users, 367,982 items, 8.9 million reviews; on two cores about ten minutes for an epoch of
DIEN and two for one of DIN, mostly the recurrences.

Expected: the order of the table. The absolute figures were not reproduced here, where only small
Amazon files are at hand; the authors chose their checkpoint on the test set, we do on validation.
"""

import ml_collections

from experiments.running import defaults


def get_config(model: str = "dien") -> ml_collections.ConfigDict:
    """Settings for a model of `dgin_tf.models.registry.MODELS`."""
    config = defaults.get_config(model)
    config.optimizer.decay = 0.5  # the released code halves the rate after every epoch
    config.loop.evaluations_per_epoch = 4  # and tests every 100 steps
    return config
