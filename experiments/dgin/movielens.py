"""DGIN and its baselines on MovieLens-1M, ratings of 4 and 5 as clicks, first genre as category.

Claim: none of the paper's own. Nobody rates a film twice, so that a group of one item is one event
and the target module finds nothing by item; groups are genres here, as in the rows of table 5
(category .7408 without the target module < .7639 with it). There is one type of behavior, and no
row for clicks alone.

    python -m data_prep.prepare --dataset=movielens --input=ratings.dat,movies.dat,users.dat \\
        --protocol=examples_file --examples=reference_examples.csv --output_dir=D
    python -m experiments.train --config=experiments/dgin/movielens.py:dgin --data_dir=D --model_dir=M

`:dgin` is a row of `experiments.dgin.variants.ROWS`, by genre unless it is `dgin_session`, or any
model of `dgin_tf.models.registry.MODELS`.

Cost: 67,923 rows of two candidates an epoch; on one core of an AMD EPYC that is shared, DGIN takes three
and a half minutes an epoch, SIM and TWIN 20 to 25 s.

Expected: of table 2, DIN .893 and SIM (hard) .893 < TWIN .903 < DGIN .919 with negatives drawn uniformly
(three seeds), .789, .795 < .803 < .837 with popular ones (one seed); of table 3 .854 < .875 < .917 < .918, the last step within noise. The large
embeddings of `variants.start_attending` are not for histories as short as these: with them DIN to DGIN
had .875, .872, .874 and .878, and less on validation too
(`--config.network.embedding_limit=2.0 --config.network.momentum=.9`).
"""

import ml_collections

from experiments.dgin import variants


def get_config(model: str = "dgin") -> ml_collections.ConfigDict:
    """Settings for a row, see above."""
    config = variants.get_config(model, max_history=200, short_events=20)
    if config.model.name == "dgin" and config.model.key == "item_id":
        config.model.key = "category_id"
    config.data.batch_rows = 128
    config.optimizer.learning_rate = 2e-3
    return config
