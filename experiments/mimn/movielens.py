"""MIMN and its baselines on MovieLens-1M, ratings of 4 and 5 as clicks, first genre as category.

Claim: the order of tables 2 and 4, on examples that other implementations were measured on: fixed
ones, the last 20 positions of every user against one negative each.

    python -m data_prep.prepare --dataset=movielens --input=ratings.dat,movies.dat,users.dat \\
        --protocol=examples_file --examples=reference_examples.csv --output_dir=D
    python -m experiments.train --config=experiments/mimn/movielens.py:mimn --data_dir=D \\
        --model_dir=M

Every row has the summed history beside its encoder, as in the authors' code; so DIN and DIEN (`augru`) are
not those of `experiments.dien`.

`:mimn` is any model of `dgin_tf.models.registry.MODELS` or a row of `experiments.mimn.variants`.

Cost: 67,923 rows of two candidates an epoch; on one core 40 s for MIMN, 5 to 20 s for the others.

Expected: MIMN above DIN and Embedding&MLP, at .840 against .764 and .718 with negatives drawn by
popularity (five seeds); GRU4Rec, ARNN and RUM are as good. The paper has no figures for these data.
"""

import ml_collections

from experiments.mimn import variants


def get_config(model: str = "mimn", max_history: int = 200) -> ml_collections.ConfigDict:
    """Settings for a model, see above."""
    config = variants.get_config(model, max_history)
    config.network.user_fields = ()  # the split is by user
    config.data.batch_rows = 128  # 256 samples, as the implementations compared with had
    config.optimizer.learning_rate = 2e-3
    if model == "din":
        config.model.softmax = True  # as on these data in `experiments.dien`
    return config
