"""What the released code's head reads of the user, and how a config says otherwise."""

import pytest

from dgin_tf.models.base import ModelConfig
from dgin_tf.models.baselines.pnn import PNN
from dgin_tf.released.baselines import PNNReleased
from dgin_tf.released.head import released_config
from tests.prepared import make_schema


@pytest.mark.parametrize(
    ("user_fields", "expected"), [(None, ("user_id",)), ((), ()), (("user_age",), ("user_age",))]
)
def test_the_released_head_has_the_users_id_unless_the_config_says_otherwise(user_fields, expected):
    assert released_config(ModelConfig(user_fields=user_fields)).user_fields == expected


@pytest.mark.parametrize(
    ("model_class", "user_fields", "tables"),
    [
        (PNNReleased, None, {"item_id", "category_id", "user_id"}),
        (PNNReleased, (), {"item_id", "category_id"}),
        (PNN, None, {"item_id", "category_id"}),
        (PNN, ("user_id",), {"item_id", "category_id", "user_id"}),
    ],
)
def test_a_table_of_users_exists_only_where_users_are_embedded(model_class, user_fields, tables):
    model = model_class(make_schema(), ModelConfig(user_fields=user_fields))
    assert set(model.embedding.tables) == tables
