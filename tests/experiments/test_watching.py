"""What the runs of commands show of a data set: the items' names in TensorBoard's projector."""

import numpy as np
import pandas as pd
import pytest

from data_prep.vocabularies import Vocabulary
from dgin_tf.inputs.pipeline import PreparedData
from dgin_tf.models.registry import make_model
from experiments.running import watching
from tests.prepared import ITEMS, write_prepared

RAW = np.arange(7, 7 + ITEMS - 2)


@pytest.fixture
def projected(tmp_path):
    """Projection of a model's items, of a data set with vocabularies and titles of every second item."""
    write_prepared(tmp_path, users=5)
    items = Vocabulary(RAW, np.zeros(ITEMS - 2, np.int64))
    (tmp_path / "vocabulary").mkdir()
    items.save(tmp_path / "vocabulary" / "item_id.txt")
    titles = pd.DataFrame({"item_id": RAW[::2], "title": [f"Title\t{item}" for item in RAW[::2]]})
    items.save_titles(tmp_path / "vocabulary" / "item_id.titles.txt", titles)
    data = PreparedData(tmp_path)
    model = make_model("base_model", data.schema)
    model.build()
    return model, watching._items(model, data)


def test_every_item_has_its_raw_id_title_category_and_count(projected):
    _, projection = projected
    assert projection.columns == ["item_id", "title", "category_id", "count"]
    assert list(projection.rows[2]) == ["9", "Title 9", "#6", "4"]
    assert list(projection.rows[3])[:2] == ["10", ""]


def test_the_vectors_are_the_embeddings_of_real_items(projected):
    model, projection = projected
    expected = model.embedding.tables["item_id"].numpy()[2:]
    np.testing.assert_array_equal(projection.vectors, expected)
    assert len(projection.rows) == len(expected) == ITEMS - 2
