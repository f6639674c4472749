"""DIEN and its baselines on Amazon Electronics (2014, 5-core), as in tables 2 and 4 of the paper.

Claim: table 2, AUC BaseModel .8538 < PNN .8582 < DIN .8608 < two-layer GRU attention .8640 < DIEN
.9030, five runs each.

    python -m data_prep.prepare --dataset=amazon --form=paper --output_dir=D \\
        --input=reviews_Electronics_5.json.gz,meta_Electronics.json.gz
    python -m experiments.train --config=experiments/dien/amazon_electronics.py:dien --data_dir=D \\
        --model_dir=M --seeds=5

Cost: 192,403 users, 63,001 items, 1.7 million reviews; on two cores a few minutes for an epoch of DIEN.

Expected: the order of the table, with the reservations of `amazon_books.py`.
"""

import ml_collections

from experiments.dien import amazon_books


def get_config(model: str = "dien") -> ml_collections.ConfigDict:
    """Settings for a model: those of Amazon Books."""
    return amazon_books.get_config(model)
