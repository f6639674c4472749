"""ENCODE and its baselines on the newest 1,000 of 5,000 synthetic clicks, most causes behind the newest 50.

Claim: that of `movielens`: ENCODE has what target attention over everything has, and the searching
models have less.

    python -m data_prep.synthetic --output=log.csv --preset=deep_5000 --seed=7
    python -m data_prep.prepare --dataset=taobao --input=log.csv --output_dir=D \\
        --targets_per_user=20 --negative_distribution=popularity
    python -m experiments.train --config=experiments/encode/synthetic_1000.py:encode --data_dir=D \\
        --model_dir=M --seeds=5

`:encode` is any model of `dgin_tf.models.registry.MODELS`, or a row of the paper's tables 3 to 7 and of
figure 3, see `experiments.encode.variants`.

Cost: 30,060 rows of two candidates an epoch; on one core of an AMD EPYC a minute and a half for ENCODE, three
for target attention over everything.

Expected: what a candidate was caused by is one event or a few among a thousand, which a mean over a
cluster hardly shows. Five seeds gave ENCODE .759, and .684 as Eq. (9) is printed (`encode_printed`), which
is what average pooling has; target attention over everything has .914 (two).
"""

import ml_collections

from experiments.encode import reference_examples


def get_config(model: str = "encode") -> ml_collections.ConfigDict:
    """Settings for a model, see above; trained as on the reference examples."""
    return reference_examples.get_config(model, max_history=1_000, short_events=50)
