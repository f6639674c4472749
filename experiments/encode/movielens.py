"""ENCODE and its baselines on MovieLens, ratings of 4 and above as clicks, the others as none.

Claim: table 2, AUC on MovieLens-32M DIN .7989 < average pooling .8025 < SIM (hard) .8036 < ETA .8057
< SDIM .8065 < ENCODE .8077, which is what target attention over everything has, .8078.

    python -m data_prep.prepare --dataset=movielens --input=ratings.csv,movies.csv \\
        --protocol=every_event --output_dir=D
    python -m experiments.train --config=experiments/encode/movielens.py:encode --data_dir=D \\
        --model_dir=M --seeds=5

`:encode` is any model of `dgin_tf.models.registry.MODELS`, or a row of the paper's tables 3 to 7 and of
figure 3, see `experiments.encode.variants`. Every event is an example, split by time at 80%; one epoch.

Cost: ENCODE clusters every history in every step; see `experiments/results` for examples a second.

Expected: ENCODE within .001 of target attention over everything (`din_long`) and above the searching
models. The paper does not say which ratings are clicks. Cosines are multiplied by beta; `encode_printed`
divides by it, as Eq. (9) stands.
"""

import ml_collections

from experiments.encode import variants


def get_config(model: str = "encode") -> ml_collections.ConfigDict:
    """Settings for a model, see above."""
    config = variants.get_config(model, max_history=1550)
    if "softmax" in config.model:
        config.model.softmax = True  # as DIN wants it on these data
    return config
