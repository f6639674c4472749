"""Logs whose ids are words: the vocabularies give the words back, whatever the workers."""

import csv
import dataclasses

import numpy as np
import pytest

from data_prep.pipeline import Preparation
from data_prep.protocol import EXAMPLES_FILE, Limits, Protocol
from data_prep.readers.table import TableReader
from tests.data_prep.logs import all_bytes, raw_ids, records, run

OPTIONS = {"category_column": "category"}


@pytest.fixture
def rows():
    rng = np.random.default_rng(11)
    items = rng.integers(0, 61, 23 * 13)
    return [
        (f"u-{user}", f"ä{item:03d}", f"shelf {item % 5}", int(second))
        for user, item, second in zip(
            rng.integers(0, 23, len(items)), items, rng.integers(0, 10**6, len(items)), strict=True
        )
    ]


def table(folder, rows):
    path = folder / "log.csv"
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("user_id", "item_id", "category", "timestamp"), *rows])
    return str(path)


def preparation(folder, rows):
    reader = TableReader([table(folder, rows)], OPTIONS)
    return Preparation(reader, Protocol(), Limits(buckets=3), seed=2)


def test_words_come_back_from_the_vocabularies(tmp_path, rows):
    run(preparation(tmp_path, rows), tmp_path / "out")
    users, items, shelves = (
        raw_ids(tmp_path / "out", name) for name in ("user_id", "item_id", "category_id")
    )
    for record in sum(records(tmp_path / "out").values(), []):
        own = {(t, i): c for u, i, c, t in rows if u == users[record["user_id"][0]]}
        features = ("hist_timestamp", "hist_item_id", "hist_category_id")
        for second, item, shelf in zip(*(record[name] for name in features), strict=True):
            if item > 1:
                assert own[(int(second), items[item])] == shelves[shelf]


def test_equally_frequent_words_are_in_the_order_of_the_alphabet(tmp_path, rows):
    run(preparation(tmp_path, rows), tmp_path / "out")
    counts = {user: len({r for r in rows if r[0] == user}) for user in {r[0] for r in rows}}
    expected = sorted(counts, key=lambda user: (-counts[user], user))
    assert list(raw_ids(tmp_path / "out", "user_id").values()) == expected


def test_two_workers_write_the_same_bytes(tmp_path, rows):
    request = preparation(tmp_path, rows)
    run(request, tmp_path / "one")
    run(request, tmp_path / "two", workers=2)
    assert all_bytes(tmp_path / "one") == all_bytes(tmp_path / "two")


def test_an_examples_file_may_name_words(tmp_path, rows):
    request = preparation(tmp_path, rows)
    run(request, tmp_path / "sampled")
    # The strict cuts of last_event are positions here: no two events of a user share a second.
    assert len({(r[0], r[3]) for r in rows}) == len(rows)
    users, items = (raw_ids(tmp_path / "sampled", name) for name in ("user_id", "item_id"))
    found = records(tmp_path / "sampled")["train"]
    lines = [
        (users[r["user_id"][0]], "train", r["cand_position"][0], r["cand_timestamp"][0])
        + tuple(items[i] for i in r["cand_item_id"])
        for r in found
    ]
    path = tmp_path / "examples.csv"
    with open(path, "w", encoding="utf-8", newline="") as file:
        header = ("user_id", "split", "position", "timestamp", "positive", "negative")
        csv.writer(file).writerows([header, *lines])
    fixed_examples = dataclasses.replace(
        request, protocol=Protocol(EXAMPLES_FILE), examples=str(path)
    )
    run(fixed_examples, tmp_path / "fixed")
    for first, second in zip(found, records(tmp_path / "fixed")["train"], strict=True):
        assert first.keys() == second.keys()
        for name, values in first.items():
            np.testing.assert_array_equal(values, second[name])
