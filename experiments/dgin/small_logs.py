"""DGIN and its baselines on logs that are small: the beginning of Taobao's, and Amazon Grocery.

Claim: that of `taobao`, which these logs are too small to decide.

    python -m data_prep.prepare --dataset=taobao --input=UserBehavior.csv --output_dir=D1 \\
        --protocol=multi_behavior --targets_per_user=10 --negatives=4
    python -m data_prep.prepare --dataset=table --input=train.csv --item_table=item_meta.csv \\
        --time_column=time --category_column=i_category --separator=tab --output_dir=D2 \\
        --protocol=last_event --targets_per_user=3 --negatives=4
    python -m experiments.train --config=experiments/dgin/small_logs.py:dgin --data_dir=D1 \\
        --model_dir=M --seeds=5

`:dgin` is a row of `experiments.dgin.variants.ROWS` or any model of
`dgin_tf.models.registry.MODELS`.

Cost: the first 630 users of Taobao's log have 5,037 rows of five candidates, 10 to 30 s an epoch;
Grocery has 14,681 users of eight events on average.

Expected: nothing certain. Of Taobao's 43,900 items hardly one of a training user turns up with another
user, so that little but the category and having met the item can be learned: three seeds gave groups by
category .846, by item .676, TWIN .515 to .811. In Grocery nobody buys an item twice, and there is one
type of behavior and no row for clicks alone: all rows have .765 to .772. Embeddings of +-1, as the
lifelong log needs them, had .66 to .69 on validation there, and these .75 to .76.
"""

import ml_collections

from experiments.dgin import variants


def get_config(model: str = "dgin") -> ml_collections.ConfigDict:
    """Settings for a row, see above."""
    config = variants.get_config(model, max_history=200, short_events=20)
    config.network.user_fields = ()  # the split is by user
    config.data.batch_rows = 128
    return config
