"""ENCODE and its baselines on fixed examples of MovieLens-1M, ratings of 4 and 5 as clicks.

Claim: that of `movielens`, on examples that other implementations were measured on: the last 20
positions of every user against one negative each, of which the paper has none.

    python -m data_prep.prepare --dataset=movielens --input=ratings.dat,movies.dat,users.dat \\
        --protocol=examples_file --examples=reference_examples.csv --output_dir=D
    python -m experiments.train --config=experiments/encode/reference_examples.py:encode \\
        --data_dir=D --model_dir=M --seeds=5

`:encode` is any model of `dgin_tf.models.registry.MODELS`, or a row of the paper's tables 3 to 7 and of
figure 3, see `experiments.encode.variants`.

Cost: 67,923 rows of two candidates an epoch.

Expected: nothing certain; five seeds gave ENCODE .903, `encode_printed`, average pooling and target attention over
everything .905, SIM (hard) .902. Histories have at most 200 events, of which the newest 20 are read one by
one, so that thirty clusters have few members each.
"""

import ml_collections

from dgin_tf.training.loop import LoopOptions
from experiments.encode import variants


def get_config(
    model: str = "encode", max_history: int = 200, short_events: int = 20
) -> ml_collections.ConfigDict:
    """Settings for a model, see above."""
    config = variants.get_config(model, max_history, short_events)
    config.network.user_fields = ()  # the split is by user
    config.data.batch_rows = 128
    config.loop.epochs = LoopOptions.epochs
    config.optimizer.learning_rate = 2e-3
    if "softmax" in config.model:
        config.model.softmax = True  # weights have to add up to one, as in `experiments.dien`
    return config
