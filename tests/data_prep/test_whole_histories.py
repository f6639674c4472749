"""Whole histories: every user of the log with every event, whatever the splits leave out."""

import dataclasses

import pytest

from dgin_tf.records import Manifest, decode_record
from dgin_tf.schema import Schema
from dgin_tf.whole_histories import LENGTHS, whole_records
from tests.data_prep import logs
from tests.data_prep.test_impressions import impressions, prepared

ROWS = [*logs.rows_of(users=23, events=7), (99, 5, 105, "pv", logs.START + 9)]  # one of one event
PROTOCOLS = {
    "last_event": {},
    "multi_behavior": {"name": "multi_behavior", "positive_types": ("pv",)},
    "every_event": {"name": "every_event", "split_by": "time", "fractions": (0.6, 0.2, 0.2)},
    "some_users": {"min_history": 5, "targets_per_user": 2},
    "paper": {"name": "every_event", "form": "paper", "split_by": "time", "min_history": 0},
}


def whole_of(output):
    """Raw user -> (second, raw item) of each event of the whole history."""
    schema = Schema.load(output)
    manifest = Manifest.load(output, schema)
    users, items = (logs.raw_ids(output, name) for name in ("user_id", "item_id"))
    records = []
    for length, payload in whole_records(output, manifest, schema):
        records.append(decode_record(schema, payload))
        assert len(records[-1]["label"]) == 0
        assert length == min(n for n in LENGTHS if n >= len(records[-1]["hist_item_id"]))
    assert len(records) == sum(shard.users for shard in manifest.whole_histories or ())
    return {
        users[int(r["user_id"][0])]: [
            (int(second), items.get(int(item), "unknown"))
            for second, item in zip(r["hist_timestamp"], r["hist_item_id"], strict=True)
        ]
        for r in records
    }


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_user_has_every_event(tmp_path, name):
    path = logs.write_log(tmp_path, ROWS)
    card = logs.run(logs.preparation(path, **PROTOCOLS[name]), tmp_path / "out")
    whole = whole_of(tmp_path / "out")
    assert set(whole) == {str(user) for user, *_ in ROWS}
    for user, events in whole.items():
        expected = [(second, str(item)) for second, item, *_ in logs.history_of(ROWS, user)]
        assert [second for second, _ in events] == [second for second, _ in expected]
        assert all(a in (e, (e[0], "unknown")) for a, e in zip(events, expected, strict=True))
    assert card["whole_histories"] == {
        "users": len(whole),
        "events": card["histories"]["events"],
        "events_left_out": 0,
    }


def test_no_split_has_them(tmp_path):
    path = logs.write_log(tmp_path, ROWS)
    logs.run(logs.preparation(path), tmp_path / "out")
    manifest = Manifest.load(tmp_path / "out", Schema.load(tmp_path / "out"))
    in_splits = {shard.path for shards in manifest.splits.values() for shard in shards}
    assert not in_splits & {shard.path for shard in manifest.whole_histories}
    assert "whole" not in manifest.splits


def test_a_history_is_stored_once(tmp_path):
    rows = logs.rows_of(users=11, events=300, items=5000)
    path = logs.write_log(tmp_path, rows)
    logs.run(logs.preparation(path), tmp_path / "out")
    sizes = {name: len(content) for name, content in logs.all_bytes(tmp_path / "out").items()}
    of_tails = sum(size for name, size in sizes.items() if name.startswith("whole/"))
    of_splits = sum(size for name, size in sizes.items() if name.endswith(".tfrecord")) - of_tails
    assert of_tails < 0.1 * of_splits


def test_a_limit_of_the_data_set_holds_for_them_and_is_counted(tmp_path):
    path = logs.write_log(tmp_path, ROWS)
    card = logs.run(logs.preparation(path, max_history=3), tmp_path / "out")
    whole = whole_of(tmp_path / "out")
    for user, events in whole.items():
        assert [second for second, _ in events] == [
            second for second, *_ in logs.history_of(ROWS, user)
        ][-3:]
    counts = card["whole_histories"]
    assert counts["events"] == sum(map(len, whole.values()))
    assert counts["events"] + counts["events_left_out"] == card["histories"]["events"]


def test_without_them_a_data_set_is_what_it_was(tmp_path):
    path = logs.write_log(tmp_path, ROWS)
    request = logs.preparation(path)
    without = dataclasses.replace(request, whole_histories=False)
    logs.run(request, tmp_path / "with")
    card = logs.run(without, tmp_path / "without")
    assert "whole_histories" not in card
    assert not (tmp_path / "without" / "whole").exists()
    kept = {
        name: content
        for name, content in logs.all_bytes(tmp_path / "with").items()
        if not name.startswith("whole/") and name.endswith((".tfrecord", ".txt", ".npz"))
    }
    others = logs.all_bytes(tmp_path / "without")
    assert {name: others[name] for name in kept} == kept
    with pytest.raises(ValueError, match="have no whole histories"):
        whole_of(tmp_path / "without")


def test_of_impressions_the_clicked_ones_are_the_history(tmp_path):
    table = impressions()
    output, card = prepared(tmp_path / "x", table)
    clicked = table[table["clicked"] == 1].drop_duplicates(["user_id", "item_id", "second"])
    whole = whole_of(output)
    assert set(whole) == {str(user) for user in table["user_id"]}  # also whoever clicked nothing
    assert {user: len(events) for user, events in whole.items() if events} == {
        str(user): len(rows) for user, rows in clicked.groupby("user_id")
    }
    assert card["whole_histories"]["events"] == len(clicked)
