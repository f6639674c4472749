"""Ids that stay from one data set to the next, and ids that rare values share."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from data_prep.id_policy import VocabularyOptions
from data_prep.preparation import Preparation
from data_prep.protocol import Limits, Protocol
from data_prep.readers.table import TableReader
from dgin_tf.hashed_ids import RawIds, hashed_number
from dgin_tf.records import Manifest, load_catalogue
from dgin_tf.schema import Schema
from dgin_tf.serving.export.vocabularies import Vocabularies
from tests.data_prep import logs

DAY = 86_400
NAMES = ("user_id", "item_id", "category_id", "behavior_type")


def day(number, users=29, items=31, seed=None):
    """A day's rows: a few users and items more every day, in Taobao's layout."""
    rows = logs.rows_of(users + 3 * number, 9, items + 5 * number, seed=number)
    return [
        (u, i, c, b, (t - logs.START) % 50_000 + logs.START + number * DAY)
        for u, i, c, b, t in rows
    ]


def prepare(folder, rows, output, earlier="", **choices):
    folder.mkdir(exist_ok=True)
    path = logs.write_log(folder, rows)
    options = {n: choices.pop(n) for n in ("min_count", "hashed") if n in choices}
    request = logs.preparation(path, positive_types=(), **choices)
    vocabulary = VocabularyOptions(str(earlier) if earlier else "", **options)
    return logs.run(dataclasses.replace(request, vocabulary=vocabulary), output)


@pytest.fixture(scope="module")
def days(tmp_path_factory):
    """Two days, the second with the ids of the first; the folder and the cards."""
    folder = tmp_path_factory.mktemp("days")
    first = prepare(folder / "a", day(0), folder / "day0")
    second = prepare(folder / "b", day(1), folder / "day1", folder / "day0")
    return folder, first, second


@pytest.mark.parametrize("name", NAMES)
def test_earlier_ids_stay_and_new_values_follow(days, name):
    folder, _, card = days
    before, after = (logs.raw_ids(folder / d, name) for d in ("day0", "day1"))
    assert {number: after[number] for number in before} == before
    assert card["vocabulary_from"][name] == {"kept": len(before), "new": len(after) - len(before)}
    assert len(set(after.values())) == len(after)


def test_there_are_new_users_and_items(days):
    counts = days[2]["vocabulary_from"]
    assert counts["user_id"]["new"] == 3
    assert counts["item_id"]["new"] > 0


def test_records_have_the_kept_ids(days):
    folder = days[0]
    users, items = (logs.raw_ids(folder / "day1", name) for name in ("user_id", "item_id"))
    for split in logs.records(folder / "day1").values():
        for record in split:
            history = logs.history_of(day(1), users[int(record["user_id"][0])])
            expected = [str(item) for _, item, _, _ in history][: len(record["hist_item_id"])]
            actual = [items.get(number) for number in record["hist_item_id"].tolist()]
            assert all(a in (None, e) for a, e in zip(actual, expected, strict=True))


def test_an_item_of_the_day_before_alone_keeps_its_category_and_no_count(days):
    folder = days[0]
    today = {str(item) for _, item, *_ in day(1)}
    names = logs.raw_ids(folder / "day1", "item_id")
    gone = [number for number, raw in names.items() if raw not in today]
    catalogue = load_catalogue(folder / "day1")
    categories = logs.raw_ids(folder / "day1", "category_id")
    for number in gone or [2]:
        assert categories[int(catalogue["category_id"][number])] == str(
            100 + int(names[number]) % 7
        )
        assert catalogue["count"][number] == 0 or not gone
    assert len(catalogue["count"]) == Schema.load(folder / "day1").vocabulary_sizes["item_id"]


def test_the_manifest_knows_the_schemas_whose_ids_it_keeps(days, tmp_path):
    folder = days[0]
    prepare(tmp_path / "c", day(2), tmp_path / "day2", folder / "day1")
    schemas = [Schema.load(path) for path in (folder / "day1", folder / "day0")]
    manifest = Manifest.load(tmp_path / "day2", Schema.load(tmp_path / "day2"))
    assert [Schema.from_json(text) for text in manifest.earlier_schemas] == schemas
    assert Manifest.load(folder / "day0", schemas[1]).earlier_schemas == ()


def test_the_same_log_with_its_own_ids_gives_the_same_records(days, tmp_path):
    folder = days[0]
    card = prepare(tmp_path / "a", day(0), tmp_path / "again", folder / "day0")
    assert {counts["new"] for counts in card["vocabulary_from"].values()} == {0}
    for path in (folder / "day0").rglob("*.tfrecord"):
        twin = tmp_path / "again" / path.relative_to(folder / "day0")
        assert twin.read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: (d / "schema.json").unlink(), "expected a prepared data set with schema.json"),
        (lambda d: (d / "vocabulary" / "item_id.txt").write_text("x\n"), "item_id.txt"),
    ],
)
def test_an_earlier_data_set_that_is_no_good_is_refused(days, tmp_path, damage, message):
    import shutil

    shutil.copytree(days[0] / "day0", tmp_path / "old")
    damage(tmp_path / "old")
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        prepare(tmp_path / "b", day(1), tmp_path / "out", tmp_path / "old")
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_a_vocabulary_of_another_schema_is_refused(days, tmp_path):
    path = logs.write_log(tmp_path, day(1))
    request = dataclasses.replace(
        logs.preparation(path, behavior_types=("pv",)),
        vocabulary=VocabularyOptions(str(days[0] / "day0")),
    )
    with pytest.raises(ValueError, match=r"another schema: .* missing \['behavior_type'\]"):
        logs.run(request, tmp_path / "out")
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_other_hashed_ids_than_those_of_the_earlier_data_set_are_refused(days, tmp_path):
    with pytest.raises(ValueError, match="has 0 hashed ids, and --hash_buckets=4"):
        prepare(tmp_path / "b", day(1), tmp_path / "out", days[0] / "day0", hashed=4)


@pytest.fixture(scope="module")
def hashed(tmp_path_factory):
    """Data in which items with fewer than nine training events share five ids."""
    folder = tmp_path_factory.mktemp("hashed")
    prepare(folder, day(0), folder / "out", min_count=9, hashed=5)
    return folder / "out"


def test_rare_items_share_hashed_ids_and_serving_looks_them_up_alike(hashed):
    lines = (hashed / "vocabulary" / "item_id.txt").read_text().splitlines()
    vocabulary, names = Vocabularies(hashed)["item_id"], dict(enumerate(lines, start=2))
    assert vocabulary.hashed == 5
    assert len(vocabulary) == len(lines) - 5
    seen = set()
    for split in logs.records(hashed).values():
        for record in split:
            raw_user = logs.raw_ids(hashed, "user_id")[int(record["user_id"][0])]
            history = logs.history_of(day(0), raw_user)[: len(record["hist_item_id"])]
            for (_, item, *_), number in zip(history, record["hist_item_id"], strict=True):
                assert vocabulary.get(str(item)) == number
                seen.add(int(number))
    assert min(seen) < 7 < max(seen)
    assert names[7] not in ("", None)


def test_hashed_ids_are_no_negatives_and_count_their_events(hashed):
    negatives = np.concatenate(
        [
            record["cand_item_id"][record["label"] == 0]
            for split in logs.records(hashed).values()
            for record in split
        ]
    )
    assert negatives.min() >= 7
    catalogue = load_catalogue(hashed)
    assert catalogue["count"][2:7].sum() > 0
    assert catalogue["count"][7:].min() >= 9
    assert catalogue["category_id"][2:7].tolist() == [1] * 5


def test_a_value_that_nobody_has_seen_has_a_hashed_id_too():
    ids = RawIds(["\x1fhashed 0", "\x1fhashed 1", "\x1fhashed 2", "a", "b"])
    assert (ids["a"], ids.get("b"), len(ids), "new" in ids) == (5, 6, 2, False)
    assert ids.get("new", 1) == ids["new"] == 2 + hashed_number("new", 3)
    assert RawIds(["a"]).get("new", 1) == 1


def test_hashed_ids_stay_the_next_day(hashed, tmp_path):
    prepare(tmp_path / "b", day(1), tmp_path / "next", hashed, min_count=9, hashed=5)
    before, after = (logs.raw_ids(folder, "item_id") for folder in (hashed, tmp_path / "next"))
    assert {number: after[number] for number in before} == before
    assert len(after) > len(before)


def test_a_count_that_no_item_has_is_one_sentence(tmp_path):
    with pytest.raises(ValueError, match="no item has --min_count=900 training events"):
        prepare(tmp_path / "a", day(0), tmp_path / "out", min_count=900)


def test_rare_items_are_unknown_without_hashed_ids(tmp_path):
    prepare(tmp_path / "a", day(0), tmp_path / "out", min_count=9)
    catalogue = load_catalogue(tmp_path / "out")
    assert catalogue["count"][2:].min() >= 9
    assert Vocabularies(tmp_path / "out")["item_id"].get("none", 1) == 1


@pytest.mark.parametrize("name", ["last_event", "every_event"])
def test_examples_of_one_day_have_the_history_of_all_days(tmp_path, name):
    rows, first = [*day(0), *day(1)], logs.START + DAY
    choices = {"name": name, "targets_from": first}
    if name == "every_event":
        choices |= {"split_by": "time", "fractions": (0.5, 0.2, 0.3)}
    path = logs.write_log(tmp_path, rows)
    card = logs.run(logs.preparation(path, **choices), tmp_path / "out")
    splits = logs.records(tmp_path / "out")
    assert set(splits) == {"train", "validation", "test"}
    for records in splits.values():
        assert min(record["cand_timestamp"].min() for record in records) >= first
    oldest = min(r["hist_timestamp"].min() for r in splits["train"] if len(r["hist_timestamp"]))
    assert oldest < first
    assert card["settings"]["targets_from"] == first


def worded(folder, number, output, earlier="", hashed=0):
    """A table with words as ids and a side feature, prepared; with titles of no item."""
    folder.mkdir()
    names = [
        (f"u{u}", f"i{i}", f"c{c}", f"at {i % (2 + number)}", t) for u, i, c, _, t in day(number)
    ]
    table = pd.DataFrame(names, columns=["user_id", "item_id", "shelf", "place", "timestamp"])
    table.to_csv(folder / "log.csv", index=False)
    options = {"category_column": "shelf", "side_feature_columns": ["location=place"]}
    reader = TableReader([str(folder / "log.csv")], options)
    vocabulary = VocabularyOptions(str(earlier) if earlier else "", 5 if hashed else 1, hashed)
    request = Preparation(reader, Protocol(), Limits(buckets=2), 3, vocabulary=vocabulary)
    return logs.run(request, output)


@pytest.mark.parametrize("hashed", [0, 3])
def test_words_keep_their_ids_too(tmp_path, hashed):
    worded(tmp_path / "a", 0, tmp_path / "day0", hashed=hashed)
    card = worded(tmp_path / "b", 1, tmp_path / "day1", tmp_path / "day0", hashed)
    for name in ("user_id", "item_id", "category_id", "location"):
        before, after = (logs.raw_ids(tmp_path / d, name) for d in ("day0", "day1"))
        assert {number: after[number] for number in before} == before
        assert card["vocabulary_from"][name]["new"] == len(after) - len(before)
    assert card["vocabulary_from"]["location"]["new"] == 1
    vocabulary = Vocabularies(tmp_path / "day1")["item_id"]
    users = logs.raw_ids(tmp_path / "day1", "user_id")
    for split in logs.records(tmp_path / "day1").values():
        for record in split:
            raw = users[int(record["user_id"][0])].removeprefix("u")
            history = logs.history_of(day(1), raw)[: len(record["hist_item_id"])]
            expected = [vocabulary.get(f"i{item}", 1) for _, item, *_ in history]
            assert sorted(record["hist_item_id"].tolist()) == sorted(expected)


def test_words_of_an_earlier_data_set_are_no_integers_of_a_log(tmp_path):
    worded(tmp_path / "a", 0, tmp_path / "words")
    with pytest.raises(
        ValueError, match=r"holds words, and this log integers; give --id_type=word"
    ):
        prepare(tmp_path / "b", day(1), tmp_path / "out", tmp_path / "words")
