"""A small impression log with declared columns of every role and kind."""

import dataclasses
import textwrap

import numpy as np
import pandas as pd

from data_prep.engines.local import LocalEngine
from data_prep.id_policy import VocabularyOptions
from data_prep.pipeline import prepare, work_folder
from data_prep.preparation import Preparation
from data_prep.protocol import Limits, make_protocol
from data_prep.readers.table import TableReader
from dgin_tf.models import registry

FILE = """
    item_table: items.csv
    columns:
      age: {role: user, kind: bucketed, buckets: 3}
      hour: {role: context, kind: categorical}
      words: {role: context, kind: multi_valued, separator: " "}
      place: {role: event, kind: categorical, column: city}
      tags: {role: item, kind: multi_valued, values: 2}
      price: {role: item, kind: standardized}
"""
ITEMS = {
    "item_id": [f"i{n}" for n in range(1, 12)],
    "shelf": [f"s{n % 3}" for n in range(1, 12)],
    "tags": ["a|b|c", "b", "", "a| |a", "c|b", "a", "b|c", "c", "a", "b", "c"],
    "price": [1.5, -2.0, np.nan, *np.arange(8) * 10.0],
}
OPTIONS = {"label_column": "click", "category_column": "shelf"}


def write_log(folder, items=None, file=FILE, **changes) -> dict[str, pd.DataFrame]:
    """An impression log of 13 users with its item table and file of columns."""
    rng, rows = np.random.default_rng(0), 400
    user = rng.integers(1, 14, rows)
    log = pd.DataFrame(
        {
            "user_id": user,
            "item_id": [f"i{n}" for n in rng.integers(1, 12, rows)],
            "timestamp": 1_600_000_000 + np.arange(rows) * 60,
            "click": rng.integers(0, 2, rows),
            "age": 10 * (user % 5),
            "hour": rng.integers(0, 24, rows),
            "words": rng.choice(["red shoes", "shoes", "", "blue"], rows),
            "city": rng.choice(["Bern", "Rome", ""], rows),
        }
    ).assign(**changes)
    items = pd.DataFrame(ITEMS if items is None else items)
    log.to_csv(folder / "log.csv", index=False)
    items.to_csv(folder / "items.csv", index=False)
    (folder / "columns.yaml").write_text(textwrap.dedent(file))
    return {"log": log, "items": items.set_index("item_id")}


def run(
    folder, protocol="impressions", output="prepared", workers=1, earlier="", **options
) -> dict:
    """The data card of a preparation."""
    options = {**OPTIONS, "columns_file": str(folder / "columns.yaml"), **options}
    if protocol != "impressions":
        del options["label_column"]
    reader = TableReader([str(folder / "log.csv")], options)
    preparation = Preparation(reader, make_protocol(protocol, "strict"), Limits(buckets=3), seed=1)
    preparation = dataclasses.replace(preparation, vocabulary=VocabularyOptions(str(earlier)))
    path = folder / output
    return prepare(preparation, path, LocalEngine(work_folder(path), workers, progress=False))


def random_din(data):
    """A DIN on prepared data, with weights that are large enough for scores to differ."""
    model = registry.make_model("din", data.schema)
    model.build()
    random = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(random.normal(0, 0.3, variable.shape))
    return model


def names_of(folder, vocabulary, output="prepared"):
    lines = (folder / output / "vocabulary" / f"{vocabulary}.txt").read_text().splitlines()
    return ["", "?", *lines]
