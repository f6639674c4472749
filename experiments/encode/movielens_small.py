"""ENCODE and its baselines on MovieLens-1M and ml-latest-small, ratings of 4 and above as clicks.

Claim: as for `movielens`, table 2: DIN < average pooling < SIM (hard) < ETA < SDIM < ENCODE, which has
what target attention over everything has.

    python -m data_prep.prepare --dataset=movielens --input=ratings.dat,movies.dat,users.dat \\
        --protocol=every_event --like_rating=4 --positive_types=like --output_dir=D
    python -m experiments.train --config=experiments/encode/movielens_small.py:encode --data_dir=D \\
        --model_dir=M --seeds=5

`:encode` is any model of `dgin_tf.models.registry.MODELS`, or a row of the paper's tables 3 to 7 and of
figure 3, see `experiments.encode.variants`.

Cost: 50,000 to 70,000 rows of one candidate an epoch, on two cores 5 to 20 s.

Expected: nothing certain. The paper's training, one epoch of steps of 1,024 at a rate of .0001, would be
fifty steps here; these data are passed over until validation is no better three times. Five seeds, until
it was no better once and five times at most, on MovieLens-1M gave ENCODE .676, `encode_printed` .685, DIN-L
.684, SDIM .684, SIM (hard) .672; five on ml-latest-small `encode_printed` .650, DIN-L .657, SDIM .649, ETA
.644, SIM (hard) .642, DIN .637.
"""

import ml_collections

from dgin_tf.training.loop import LoopOptions
from experiments.encode import movielens


def get_config(model: str = "encode") -> ml_collections.ConfigDict:
    """Settings for a model, see above."""
    config = movielens.get_config(model)
    config.data.batch_rows = 256
    config.loop.epochs = LoopOptions.epochs  # the paper's one would be fifty steps
    config.optimizer.learning_rate = 1e-3
    return config
