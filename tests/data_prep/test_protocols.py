"""Protocols multi_behavior and every_event: what is predicted, from what, and how rows are read."""

import numpy as np
import pytest

from data_prep.pipeline import Preparation
from data_prep.protocol import EVERY_EVENT, LAST_TIME, MULTI_BEHAVIOR, PAPER, Limits, make_protocol
from data_prep.readers.movielens import MovieLensReader
from data_prep.readers.taobao import BEHAVIORS, TaobaoReader
from dgin_tf.inputs.pipeline import BatchOptions, PreparedData
from dgin_tf.records import Manifest
from dgin_tf.schema import Schema
from tests.data_prep.logs import (
    START,
    history_of,
    preparation,
    raw_ids,
    records,
    rows_of,
    run,
    write_log,
)

CLICKS = {"name": MULTI_BEHAVIOR, "positive_types": ("pv",)}
PV = BEHAVIORS.index("pv")


def repeating_rows(users=37, events=29, items=11):
    """A log in which users come back to their items."""
    return rows_of(users=users, events=events, items=items)


@pytest.fixture(scope="module")
def clicks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clicks")
    rows = rows_of(users=37, events=29, items=211)
    request = preparation(write_log(folder, rows), targets_per_user=3, negatives=4, **CLICKS)
    card = run(request, folder / "out")
    return rows, folder / "out", card


def test_targets_are_the_last_clicks_and_histories_hold_every_kind(clicks):
    rows, output, _ = clicks
    users = raw_ids(output, "user_id")
    seen = set()
    for record in sum(records(output).values(), []):
        events = history_of(rows, users[record["user_id"][0]])
        wanted = [event for event in events if event[3] == PV and event[0] > events[0][0]][-3:]
        positive = record["label"] == 1
        assert record["cand_timestamp"][positive].tolist() == [event[0] for event in wanted]
        seen |= set(record["hist_behavior_type"].tolist())
    assert len(seen) == len(BEHAVIORS)


def test_each_click_has_as_many_negatives_as_asked_for_and_sees_only_what_came_before(clicks):
    rows, output, card = clicks
    users = raw_ids(output, "user_id")
    assert not any(card["leaks"].values())
    for record in sum(records(output).values(), []):
        events = history_of(rows, users[record["user_id"][0]])
        assert record["label"].tolist() == [1, 0, 0, 0, 0] * (len(record["label"]) // 5)
        for cut, second in zip(record["cand_position"], record["cand_timestamp"], strict=True):
            assert cut == sum(event[0] < second for event in events)


def test_ninety_nine_negatives_fill_one_row(tmp_path):
    rows = rows_of(users=31, events=17, items=977)
    run(preparation(write_log(tmp_path, rows), negatives=99, **CLICKS), tmp_path / "out")
    (batch,) = PreparedData(tmp_path / "out").training(BatchOptions(batch_rows=64), 1, 0).take(1)
    assert batch["label"].shape[1] == 100
    row = batch["cand_mask"].numpy().any(axis=1)
    np.testing.assert_array_equal(batch["label"].numpy().sum(axis=1), row)


def test_own_negatives_are_items_that_the_user_had_and_never_comes_back_to(tmp_path):
    rows = repeating_rows()
    request = preparation(write_log(tmp_path, rows), negatives=6, own_negatives=0.5, **CLICKS)
    card = run(request, tmp_path / "out")
    assert (
        card["leaks"]["negatives that the user has an event with after what the candidate sees"]
        == 0
    )
    users, items = raw_ids(tmp_path / "out", "user_id"), raw_ids(tmp_path / "out", "item_id")
    own = drawn = 0
    for record in sum(records(tmp_path / "out").values(), []):
        events = history_of(rows, users[record["user_id"][0]])
        cut = record["cand_position"][0]
        earlier, later = ({str(e[1]) for e in part} for part in (events[:cut], events[cut:]))
        negatives = [items[i] for i in record["cand_item_id"][record["label"] == 0]]
        assert not later & set(negatives)
        own += sum(item in earlier for item in negatives)
        drawn += len(negatives)
    assert 0.3 < own / drawn < 0.6


def test_kinds_that_are_not_kept_cannot_be_clicks(tmp_path):
    with pytest.raises(ValueError, match=r"unknown behavior types \['pv'\]; this log has \['buy'"):
        preparation(write_log(tmp_path), behavior_types=("buy", "cart"), **CLICKS)


def paper_preparation(path, name, **choices):
    protocol = make_protocol(name, PAPER, **choices)
    return Preparation(TaobaoReader([path], {}), protocol, Limits(buckets=3), 3)


def test_the_paper_form_of_multi_behavior_orders_users_by_their_last_click(tmp_path):
    rows = rows_of(users=61, events=19, items=211)
    request = paper_preparation(
        write_log(tmp_path, rows), MULTI_BEHAVIOR, positive_types=("pv",), negatives=7
    )
    run(request, tmp_path / "out")
    found = records(tmp_path / "out")
    last = {
        split: [record["cand_timestamp"][0] for record in found[split]]
        for split in ("train", "validation", "test")
    }
    assert request.protocol.split_by == LAST_TIME
    assert max(last["train"]) < min(last["test"])
    assert last["validation"] == last["test"]
    assert len(last["train"]) == pytest.approx(0.7 * 61, abs=1.5)
    for record in found["train"]:
        assert record["label"].tolist() == [1] + 7 * [0]


@pytest.mark.parametrize(
    "choices", [{**CLICKS, "own_negatives": 0.5}, {"name": EVERY_EVENT, "split_by": "time"}]
)
def test_the_examples_do_not_depend_on_the_buckets_or_the_order_of_the_rows(tmp_path, choices):
    rows = repeating_rows(users=17, events=11)
    run(preparation(write_log(tmp_path, rows), buckets=1, **choices), tmp_path / "one")
    run(preparation(write_log(tmp_path, rows[::-1]), buckets=5, **choices), tmp_path / "five")
    for split, found in records(tmp_path / "one").items():
        other = records(tmp_path / "five")[split]
        first, second = ({int(r["user_id"][0]): r for r in side} for side in (found, other))
        assert first.keys() == second.keys()
        for user, record in first.items():
            for name, values in record.items():
                np.testing.assert_array_equal(values, second[user][name])


RATINGS = [  # user, movie, rating, second: some seconds hold several ratings
    (user, movie, 1 + (user * movie) % 5, 1_000 * (movie // 3) + user)
    for user in range(1, 24)
    for movie in range(1, 30)
    if (user + movie) % 4
]


@pytest.fixture(scope="module")
def rated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rated")
    (folder / "ratings.dat").write_text("".join("::".join(map(str, r)) + "\n" for r in RATINGS))
    genres = "".join(f"{movie}::Film {movie}::Genre{movie % 3}\n" for movie in range(1, 30))
    (folder / "movies.dat").write_text(genres)
    reader = MovieLensReader([str(folder)], {"like_rating": 4.0})
    protocol = make_protocol(EVERY_EVENT, "strict", positive_types=("like",))
    card = run(Preparation(reader, protocol, Limits(buckets=3)), folder / "out")
    return folder / "out", card


def test_every_rating_with_a_history_is_an_example_with_its_own_label(rated):
    output, card = rated
    users, items = raw_ids(output, "user_id"), raw_ids(output, "item_id")
    found = set()
    for record in sum(records(output).values(), []):
        user = int(users[record["user_id"][0]])
        for item, time, label, cut in zip(
            *(record[n] for n in ("cand_item_id", "cand_timestamp", "label", "cand_position")),
            strict=True,
        ):
            assert cut == sum(u == user and t < time for u, _, _, t in RATINGS)
            found.add((user, items.get(item), int(time), int(label)))
    wanted = {
        (user, str(movie), time, int(rating >= 4))
        for user, movie, rating, time in RATINGS
        if any(u == user and t < time for u, _, _, t in RATINGS)
    }
    unknown = {(user, time, label) for user, item, time, label in found if item is None}
    assert {row for row in found if row[1]} == {
        row for row in wanted if (row[0], row[2], row[3]) not in unknown
    }
    assert sum(split["rows"] for split in card["splits"].values()) == len(wanted)


def test_splits_follow_each_other_in_time_four_to_one(rated):
    _, card = rated
    splits = card["splits"]
    assert splits["train"]["last_time"] < splits["validation"]["first_time"]
    assert splits["validation"]["last_time"] < splits["test"]["first_time"]
    share = splits["test"]["rows"] / sum(split["rows"] for split in splits.values())
    assert share == pytest.approx(0.2, abs=0.08)


def test_a_history_is_stored_once_however_many_examples_it_has(rated):
    output, _ = rated
    for found in records(output).values():
        users = [int(record["user_id"][0]) for record in found]
        assert len(set(users)) == len(users)
        for record in found:
            assert len(record["hist_item_id"]) == record["cand_position"][-1]


def test_ratings_of_one_second_see_the_same_history_in_rows_of_their_own(rated):
    output, card = rated
    data = PreparedData(output)
    assert data.steps("train", BatchOptions(batch_rows=1)) == card["splits"]["train"]["rows"]
    stored = {
        (int(r["user_id"][0]), int(time), int(item)): (r["hist_item_id"][:cut], int(label))
        for r in records(output)["train"]
        for time, item, cut, label in zip(
            *(r[n] for n in ("cand_timestamp", "cand_item_id", "cand_position", "label")),
            strict=True,
        )
    }
    read = 0
    for batch in data.training(BatchOptions(batch_rows=7, max_history=50), 1, 0):
        features = {name: values.numpy() for name, values in batch.items()}
        assert features["label"].shape[1] == 1
        for row in np.flatnonzero(features["cand_mask"][:, 0]):
            key = tuple(
                int(features[name][row].item())
                for name in ("user_id", "cand_timestamp", "cand_item_id")
            )
            history, label = stored[key]
            mask = features["hist_mask"][row]
            np.testing.assert_array_equal(features["hist_item_id"][row][mask], history)
            assert features["label"][row, 0] == label
            read += 1
    assert read == card["splits"]["train"]["rows"]


def test_likes_and_dislikes_are_kinds_of_past_events_only(rated):
    schema = Schema.load(rated[0])
    assert sorted(schema.behavior_types) == ["dislike", "like"]
    assert schema.field("behavior_type").roles == ("history",)


def test_without_labels_every_event_stands_against_sampled_items(tmp_path):
    rows = rows_of(users=23, events=13, items=307)
    request = preparation(write_log(tmp_path, rows), name=EVERY_EVENT, split_by="time", negatives=3)
    card = run(request, tmp_path / "out")
    assert not any(card["leaks"].values())
    manifest = Manifest.load(tmp_path / "out", Schema.load(tmp_path / "out"))
    assert {s.row_candidates for shards in manifest.splits.values() for s in shards} == {4}
    for record in sum(records(tmp_path / "out").values(), []):
        assert record["label"].tolist() == [1, 0, 0, 0] * (len(record["label"]) // 4)


def test_the_first_event_of_a_user_is_an_example_in_the_paper_form(tmp_path):
    rows = [
        (user, user + n, 1, "pv", START + 9_000 * n + user)
        for user in range(1, 30)
        for n in range(9)
    ]
    request = paper_preparation(write_log(tmp_path, rows), EVERY_EVENT)
    card = run(request, tmp_path / "out")
    examples = sum(card["splits"][name]["rows"] for name in ("train", "test"))
    assert examples == len(rows)
    assert any(record["cand_position"][0] == 0 for record in records(tmp_path / "out")["train"])
