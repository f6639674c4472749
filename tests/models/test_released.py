"""What the released code's head reads of the user, and how a config says otherwise."""

import pytest

from dgin_tf.models.base import ModelConfig
from dgin_tf.models.baselines.pnn import PNN
from dgin_tf.models.released import released_config
from tests.prepared import make_schema


@pytest.mark.parametrize(
    ("asked", "taken"), [(None, ("user_id",)), ((), ()), (("user_age",), ("user_age",))]
)
def test_the_released_head_has_the_users_id_unless_the_backbone_says_otherwise(asked, taken):
    assert released_config(ModelConfig(user_fields=asked)).user_fields == taken


@pytest.mark.parametrize(
    ("variant", "asked", "tables"),
    [
        ("released", None, {"item_id", "category_id", "user_id"}),
        ("released", (), {"item_id", "category_id"}),
        ("paper", None, {"item_id", "category_id"}),
        ("paper", ("user_id",), {"item_id", "category_id", "user_id"}),
    ],
)
def test_a_table_of_users_is_made_only_where_users_are_embedded(variant, asked, tables):
    model = PNN(make_schema(), ModelConfig(user_fields=asked), variant)
    assert set(model.embedding.tables) == tables
