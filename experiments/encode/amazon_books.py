"""ENCODE and its baselines on Amazon Books: the 50 newest reviews, and 1,500 before them.

Claim: table 2, AUC DIN .6357 < average pooling .8615 < SDIM .8656 < TWIN .8747 < UBR4CTR .8772 <
SIM (hard) .8808 < ETA .8816 < DIN-L .8828 < ENCODE .8840.

    python -m data_prep.prepare --dataset=amazon --input=reviews_Books_5.json.gz,meta_Books.json.gz \\
        --protocol=every_event --output_dir=D
    python -m experiments.train --config=experiments/encode/amazon_books.py:encode --data_dir=D \\
        --model_dir=M --seeds=5

Cost: few reviewers have more than 50 reviews, so that most of a step is the real-time part's.

Expected: the order of the table. The paper's Amazon data have no side information, so that SIM searches
by item there; here it searches by category, and `--config.model.field=item_id` is the paper's.
"""

import ml_collections

from experiments.encode import variants


def get_config(model: str = "encode") -> ml_collections.ConfigDict:
    """Settings for a model of `dgin_tf.models.registry.MODELS` or a row of the tables."""
    return variants.get_config(model, max_history=1550)
