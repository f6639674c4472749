"""The whole preparation on tiny logs: what the records hold, and what a run may never do."""

import contextlib
import gzip
import itertools
import os
import pathlib
import signal
import subprocess
import sys
import time
import types

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_prep import outputs
from data_prep.engines import local
from data_prep.outputs import CARD_FILE
from data_prep.pipeline import Preparation
from data_prep.protocol import PAPER, POPULARITY, TIME, Limits, Protocol, paper_form
from data_prep.readers.table import TableReader
from data_prep.readers.taobao import BEHAVIORS
from dgin_tf.integrity import read_json, sealed
from dgin_tf.records import MANIFEST_FILE, Manifest, load_catalogue
from dgin_tf.schema import FIRST_ID, Schema
from tests.data_prep.logs import (
    START,
    all_bytes,
    history_of,
    preparation,
    raw_ids,
    records,
    rows_of,
    run,
    text_of,
    write_log,
)

ROOT = pathlib.Path(__file__).resolve().parents[2]
SAMPLE = ROOT.parent / "shared/data/taobao/UserBehavior.csv.xz"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    rows = rows_of()
    card = run(preparation(write_log(folder, rows), targets_per_user=3), folder / "out")
    return rows, folder / "out", card


def test_stored_histories_are_the_log_oldest_first(prepared):
    rows, output, _ = prepared
    users, items = raw_ids(output, "user_id"), raw_ids(output, "item_id")
    behaviors = raw_ids(output, "behavior_type")
    for record in sum(records(output).values(), []):
        events = history_of(rows, users[record["user_id"][0]])[: record["cand_position"][-1]]
        assert record["hist_timestamp"].tolist() == [event[0] for event in events]
        known = [str(event[1]) in items.values() for event in events]
        stored = [items.get(i) for i in record["hist_item_id"]]
        assert stored == [str(e[1]) if k else None for e, k in zip(events, known, strict=True)]
        kinds = [behaviors[b] for b in record["hist_behavior_type"]]
        assert kinds == [BEHAVIORS[event[3]] for event in events]


def test_candidates_are_the_last_events_and_items_that_the_user_never_had(prepared):
    rows, output, _ = prepared
    users, items = raw_ids(output, "user_id"), raw_ids(output, "item_id")
    for record in sum(records(output).values(), []):
        events = history_of(rows, users[record["user_id"][0]])
        positive = record["label"] == 1
        assert record["label"].tolist() == [1, 0] * (len(positive) // 2)
        wanted = [event for event in events[-3:] if event[0] > events[0][0]]
        assert record["cand_timestamp"][positive].tolist() == [event[0] for event in wanted]
        for cut, second in zip(record["cand_position"], record["cand_timestamp"], strict=True):
            assert cut == sum(event[0] < second for event in events)
        drawn = {items[i] for i in record["cand_item_id"][~positive]}
        assert not drawn & {str(event[1]) for event in events}


def test_every_user_has_one_record_in_one_split(prepared):
    rows, output, card = prepared
    users = [int(record["user_id"][0]) for record in sum(records(output).values(), [])]
    assert sorted(users) == list(range(2, 2 + len({row[0] for row in rows})))
    assert card["histories"]["users"] == len(users)


def test_the_vocabulary_counts_training_events_and_is_sorted(prepared):
    rows, output, _ = prepared
    train = {int(record["user_id"][0]) for record in records(output)["train"]}
    users, items = raw_ids(output, "user_id"), raw_ids(output, "item_id")
    events = [e for user in train for e in history_of(rows, users[user])]
    counts = load_catalogue(output)["count"]
    assert counts[:2].tolist() == [0, 0]
    assert counts[2:].tolist() == [sum(str(e[1]) == raw for e in events) for raw in items.values()]
    order = list(zip(-counts[2:], map(int, items.values()), strict=True))
    assert order == sorted(order)


def test_the_catalogue_tells_every_items_category(prepared):
    _, output, _ = prepared
    items, categories = raw_ids(output, "item_id"), raw_ids(output, "category_id")
    stored = load_catalogue(output)["category_id"]
    for number, raw in items.items():
        assert categories[stored[number]] == str(100 + int(raw) % 7)
    for record in sum(records(output).values(), []):
        known = record["hist_item_id"] > 1
        expected = stored[record["hist_item_id"][known]]
        np.testing.assert_array_equal(record["hist_category_id"][known], expected)


def test_what_has_an_unknown_category_is_counted(tmp_path):
    rows = [(u, i, 1000 + i // 2, b, t) for u, i, _, b, t in rows_of(items=397)]  # two items each
    card = run(preparation(write_log(tmp_path, rows), targets_per_user=9), tmp_path / "out")
    for split, own in records(tmp_path / "out").items():
        categories = np.concatenate([record["cand_category_id"] for record in own])
        assert card["splits"][split]["unknown_categories"] == np.sum(categories == 1)
    assert card["splits"]["train"]["unknown_categories"] == 0
    assert card["splits"]["test"]["unknown_categories"] > 0
    known = set(raw_ids(tmp_path / "out", "category_id").values())
    events = sum(str(row[2]) not in known for row in set(rows))
    assert card["vocabulary"]["unknown_category_events"] == events > 0
    assert card["vocabulary"]["items_without_category"] == 0


def test_the_manifest_counts_what_the_files_hold(prepared):
    _, output, card = prepared
    found, manifest = records(output), Manifest.load(output, Schema.load(output))
    for split, shards in manifest.splits.items():
        widths = [np.unique(r["cand_position"], return_counts=True)[1] for r in found[split]]
        assert sum(s.users for s in shards) == len(found[split]) == card["splits"][split]["users"]
        assert sum(s.rows for s in shards) == sum(map(len, widths))
        assert max(s.row_candidates for s in shards) == max(map(max, widths))
        assert sum(s.candidates for s in shards) == sum(len(r["label"]) for r in found[split])
    longest = max(len(r["hist_item_id"]) for split in found.values() for r in split)
    assert Schema.load(output).max_history == longest


def test_a_file_holds_histories_of_its_bucket_only(tmp_path):
    rows = [(u, n, 1, "pv", START + n) for u in range(1, 40) for n in range(1, 2 + 4 * u)]
    run(preparation(write_log(tmp_path, rows)), tmp_path / "out")
    manifest = Manifest.load(tmp_path / "out", Schema.load(tmp_path / "out"))
    found = iter(records(tmp_path / "out")["train"])
    for shard in manifest.splits["train"]:
        lengths = [len(next(found)["hist_item_id"]) for _ in range(shard.users)]
        assert shard.bucket // 2 < max(lengths) <= shard.bucket or shard.bucket == 25


@pytest.mark.parametrize("workers", [2, 3])
def test_the_bytes_do_not_depend_on_the_workers(tmp_path, workers):
    path = write_log(tmp_path)
    request = preparation(path, buckets=5)
    run(request, tmp_path / "one")
    run(request, tmp_path / "many", workers=workers)
    assert all_bytes(tmp_path / "one") == all_bytes(tmp_path / "many")


def test_the_examples_do_not_depend_on_the_buckets_or_the_order_of_the_rows(tmp_path):
    rows = rows_of()
    run(preparation(write_log(tmp_path, rows), buckets=1), tmp_path / "one")
    run(preparation(write_log(tmp_path, rows[::-1]), buckets=7), tmp_path / "seven")
    for split, found in records(tmp_path / "one").items():
        other = records(tmp_path / "seven")[split]
        first, second = ({int(r["user_id"][0]): r for r in side} for side in (found, other))
        assert first.keys() == second.keys()
        for user, record in first.items():
            for name, values in record.items():
                np.testing.assert_array_equal(values, second[user][name])


def test_another_seed_gives_other_splits_and_negatives(tmp_path):
    path = write_log(tmp_path)
    run(preparation(path, seed=1), tmp_path / "1")
    run(preparation(path, seed=2), tmp_path / "2")
    one, two = (records(tmp_path / name) for name in "12")
    assert [r["user_id"][0] for r in one["train"]] != [r["user_id"][0] for r in two["train"]]


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 99),
    negatives=st.integers(1, 3),
    targets=st.integers(1, 4),
    distribution=st.sampled_from(["uniform", POPULARITY]),
    split_by=st.sampled_from(["user", TIME]),
    max_history=st.integers(0, 5),
)
def test_any_choice_gives_rows_that_see_only_the_past(
    tmp_path_factory, seed, negatives, targets, distribution, split_by, max_history
):
    folder = tmp_path_factory.mktemp("any")
    request = preparation(
        write_log(folder, rows_of(users=23, events=9, items=211, seed=seed)),
        seed=seed,
        negatives=negatives,
        targets_per_user=targets,
        negative_distribution=distribution,
        split_by=split_by,
        max_history=max_history,
    )
    run(request, folder / "out")
    for record in sum(records(folder / "out").values(), []):
        newest_seen = record["hist_timestamp"][record["cand_position"] - 1]
        assert np.all(newest_seen < record["cand_timestamp"])
        assert record["label"].tolist() == ([1] + [0] * negatives) * (
            len(record["label"]) // (1 + negatives)
        )
        if max_history:
            assert record["cand_position"][0] <= max_history


def test_a_split_by_time_orders_the_splits(tmp_path):
    rows = rows_of(users=41, events=23)
    run(preparation(write_log(tmp_path, rows), split_by=TIME), tmp_path / "out")
    times = {
        split: np.concatenate([record["cand_timestamp"] for record in found])
        for split, found in records(tmp_path / "out").items()
    }
    assert times["train"].max() < times["validation"].min()
    assert times["validation"].max() < times["test"].min()


def test_time_cuts_can_be_given(tmp_path):
    cuts = (START + 300_000, START + 500_000)
    request = preparation(write_log(tmp_path), split_by=TIME, time_cuts=cuts)
    card = run(request, tmp_path / "out")
    assert card["time_cuts"] == list(cuts)
    assert (
        card["splits"]["train"]["last_time"] < cuts[0] <= card["splits"]["validation"]["first_time"]
    )


def test_chosen_behaviour_types_alone_are_kept(tmp_path):
    card = run(preparation(write_log(tmp_path), behavior_types=("buy", "fav")), tmp_path / "out")
    names = Schema.load(tmp_path / "out").behavior_types
    assert sorted(names) == ["buy", "fav"]
    assert card["histories"]["behaviors"][0] == 0 < card["histories"]["behaviors"][1]


def test_one_behaviour_type_is_no_field(tmp_path):
    run(preparation(write_log(tmp_path), behavior_types=("pv",)), tmp_path / "out")
    schema = Schema.load(tmp_path / "out")
    assert "behavior_type" not in [field.name for field in schema.fields]


def test_the_paper_form_has_the_released_codes_quirks(tmp_path):
    path = write_log(tmp_path, rows_of(users=61, items=11))
    request = preparation(path)
    request = type(request)(request.reader, paper_form(request.protocol), request.limits, 3)
    card = run(request, tmp_path / "out")
    found = records(tmp_path / "out")
    assert request.protocol.form == PAPER
    assert [r["user_id"][0] for r in found["validation"]] == [
        r["user_id"][0] for r in found["test"]
    ]
    assert card["vocabulary"]["training_events"] == card["histories"]["events"]
    positives, negatives = (
        np.concatenate([r["cand_item_id"][r["label"] == label] for r in found["train"]])
        for label in (1, 0)
    )
    assert not np.any(positives == negatives)
    seen = [np.isin(r["cand_item_id"][1], r["hist_item_id"]) for r in found["train"]]
    assert np.any(seen)  # a negative may be something that the user had before


@pytest.mark.parametrize("choice", [{"negatives": 2}, {"targets_per_user": 2}, {"split_by": TIME}])
def test_the_paper_form_refuses_what_the_released_code_lacks(tmp_path, choice):
    with pytest.raises(ValueError, match="the paper form has"):
        paper_form(preparation(write_log(tmp_path), **choice).protocol)


class KilledError(Exception):
    """Stands for a kill between two tasks."""


@pytest.mark.parametrize("survived", [0, 2, 5, 8, 11])
def test_a_resumed_run_gives_the_same_bytes(tmp_path, monkeypatch, survived):
    request = preparation(write_log(tmp_path))
    run(request, tmp_path / "whole")
    original, done = local.write_text, []

    def write_and_die(path, text):
        if path.suffix == ".json":
            if len(done) == survived:
                raise KilledError
            done.append(path)
        original(path, text)

    monkeypatch.setattr(local, "write_text", write_and_die)
    with pytest.raises(KilledError):
        run(request, tmp_path / "out")
    assert not (tmp_path / "out" / MANIFEST_FILE).exists()
    monkeypatch.setattr(local, "write_text", original)
    run(request, tmp_path / "out")
    assert all_bytes(tmp_path / "out") == all_bytes(tmp_path / "whole")


def test_a_resumed_run_does_not_repeat_what_is_done(tmp_path, monkeypatch):
    request = preparation(write_log(tmp_path))
    monkeypatch.setattr("data_prep.pipeline.write_bucket", None)
    with pytest.raises(TypeError):
        run(request, tmp_path / "out")
    monkeypatch.undo()
    monkeypatch.setattr("data_prep.pipeline.partition_piece", None)
    monkeypatch.setattr("data_prep.pipeline.build_bucket", None)
    assert run(request, tmp_path / "out")["splits"]


def test_a_finished_run_is_not_repeated_and_a_changed_one_is(tmp_path, monkeypatch):
    path = write_log(tmp_path)
    first = run(preparation(path), tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr("data_prep.pipeline.partition_piece", None)
        assert run(preparation(path), tmp_path / "out") == first
    run(preparation(path, targets_per_user=2), tmp_path / "out")
    run(preparation(path, targets_per_user=2), tmp_path / "fresh")
    assert all_bytes(tmp_path / "out") == all_bytes(tmp_path / "fresh")


def command(*flags):
    return [sys.executable, "-m", "data_prep.prepare", "--noprogress", "--dataset=taobao", *flags]


def start(*flags, **options):
    return subprocess.Popen(command(*flags), cwd=ROOT, stderr=subprocess.PIPE, text=True, **options)


def test_a_killed_process_can_be_started_again(tmp_path):
    path = write_log(tmp_path, rows_of(users=997, events=31))
    flags = (f"--input={path}", f"--output_dir={tmp_path}/out", "--buckets=23", "--workers=2")
    process = start(*flags)
    while not list((tmp_path / "out").glob(".preparing/done-histories/*.json")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out" / MANIFEST_FILE).exists()
    new = tmp_path / "out" / ".preparing" / "output" / "train"
    new.mkdir(exist_ok=True, parents=True)
    (new / ".00000-len0025.tfrecord.7.tmp").write_bytes(b"half")
    assert start(*flags).wait() == 0
    run(preparation(path, seed=1, buckets=23), tmp_path / "whole")
    assert all_bytes(tmp_path / "out") == all_bytes(tmp_path / "whole")


def failure(tmp_path, *flags, **options):
    """Runs the command, which must fail with one sentence; returns it."""
    process = start(f"--output_dir={tmp_path}/out", "--workers=1", *flags, **options)
    _, errors = process.communicate()
    assert process.returncode == 2
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    assert not (tmp_path / "out" / MANIFEST_FILE).exists()
    return errors


def test_a_missing_file_is_one_sentence(tmp_path):
    assert "Tianchi data set 649" in failure(tmp_path, f"--input={tmp_path}/UserBehavior.csv")


def test_a_full_disk_is_one_sentence(tmp_path):
    full = pathlib.Path("/dev/full")
    if not full.exists():
        pytest.skip("needs /dev/full")
    path = write_log(tmp_path)
    (tmp_path / "out").mkdir()
    program = (
        "import errno, os, data_prep.storage as s\n"
        "def full(*_): raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), 'x.columns')\n"
        "s.os.replace = full\n"
        "from data_prep import prepare; from dgin_tf.commands import command_line\n"
        "command_line.run(prepare.main)\n"
    )
    flags = command(f"--input={path}", f"--output_dir={tmp_path}/out", "--workers=1")[3:]
    done = subprocess.run(
        [sys.executable, "-c", program, *flags], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith(
        "error: the disk is full while writing x.columns; free some space"
    )
    assert not list((tmp_path / "out").rglob("*.tmp"))
    assert not (tmp_path / "out" / MANIFEST_FILE).exists()


def refused(tmp_path, rows, match, **choices):
    """A preparation that must fail with a sentence that matches, and leave no manifest."""
    content = rows if isinstance(rows, bytes) else text_of(rows)
    path = tmp_path / "UserBehavior.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=match):
        run(preparation(str(path), **choices), tmp_path / "out")
    assert not (tmp_path / "out" / MANIFEST_FILE).exists()
    assert not (tmp_path / "out" / CARD_FILE).exists()


def test_an_empty_log_is_refused(tmp_path):
    refused(tmp_path, b"", "the log UserBehavior.csv has no events; expected at least one row")


def test_one_user_alone_has_no_negatives(tmp_path):
    rows = [(7, n, 1, "pv", START + n) for n in range(1, 6)]
    refused(tmp_path, rows, "no training examples|none of the 1 users falls into training")


def test_users_with_a_single_event_have_no_targets(tmp_path):
    rows = [(user, user, 1, "pv", START + user) for user in range(1, 30)]
    refused(tmp_path, rows, "of 29 users and 29 targets, 29 have no earlier events")


def test_too_many_bad_rows_are_refused_and_the_first_ten_named(tmp_path):
    bad = "".join(f"{n};{n};1;pv;{START}\n" for n in range(1, 14)).encode()
    rows = text_of(rows_of())
    refused(
        tmp_path, rows[: 5 * 20] + bad, "rows cannot be read, more than --max_bad_fraction=0.01"
    )
    with pytest.raises(ValueError) as error:
        run(preparation(str(tmp_path / "UserBehavior.csv")), tmp_path / "out")
    assert str(error.value).count("UserBehavior.csv:") == 10


def test_another_layout_is_refused_at_its_first_block(tmp_path):
    rows = "".join(f"{n}\t{n}\t{START}\n" for n in range(1, 30)).encode()
    refused(tmp_path, rows, "none of the first 29 rows of .*UserBehavior.csv:1: expected 5 columns")


def test_bad_rows_go_to_the_quarantine_with_line_and_reason(tmp_path):
    text = text_of(rows_of()) + b"8,9\n"
    path = tmp_path / "UserBehavior.csv"
    path.write_bytes(text)
    card = run(preparation(str(path)), tmp_path / "out")
    with gzip.open(tmp_path / "out" / "quarantine.csv.gz", "rt") as file:
        lines = file.read().splitlines()
    number = len(rows_of()) + 1
    assert lines == [
        "file,line,reason,text",
        f'UserBehavior.csv,{number},"expected 5 columns, got 2","8,9"',
    ]
    assert card["partition"]["bad_rows"] == 1


def test_duplicate_rows_count_once_and_are_counted(tmp_path):
    rows = sorted(set(rows_of()))
    run(preparation(write_log(tmp_path, rows)), tmp_path / "once")
    card = run(preparation(write_log(tmp_path, rows + rows[:101])), tmp_path / "twice")
    assert card["histories"]["duplicates"] == 101
    once, twice = all_bytes(tmp_path / "once"), all_bytes(tmp_path / "twice")
    records_of = [{n: b for n, b in f.items() if n.endswith(".tfrecord")} for f in (once, twice)]
    assert records_of[0] == records_of[1] != {}


def test_an_unknown_behaviour_type_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"unknown behavior types \['look'\]"):
        preparation(write_log(tmp_path), behavior_types=("look",))


def test_a_bad_log_leaves_the_data_set_that_is_there(tmp_path):
    run(preparation(write_log(tmp_path)), tmp_path / "out")
    before = all_bytes(tmp_path / "out")
    (tmp_path / "ms.csv").write_bytes(text_of([(*row[:4], 1000 * row[4]) for row in rows_of()]))
    with pytest.raises(ValueError, match="ms.csv"):
        run(preparation(str(tmp_path / "ms.csv")), tmp_path / "out")
    after = all_bytes(tmp_path / "out")
    assert {name: after.get(name) for name in before} == before


@pytest.mark.parametrize(
    "name", ["vocabulary/mine.txt", "report.html", "train/x.tfrecord", "notes"]
)
def test_a_folder_with_somebody_elses_file_is_refused(tmp_path, name):
    path = tmp_path / "out" / name
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    for _ in range(2):  # beside nothing, and beside a data set
        with pytest.raises(ValueError, match=f"it holds {name}, which is no part"):
            run(preparation(write_log(tmp_path)), tmp_path / "out")
        assert path.read_text() == "mine"
        path.unlink()
        run(preparation(write_log(tmp_path)), tmp_path / "out")
        path.with_name("mine").write_text("mine")
        path, name = path.with_name("mine"), str(pathlib.Path(name).with_name("mine"))


@pytest.mark.parametrize("survived", [0, 1, 3, 7, 12, 13])
def test_a_run_that_was_killed_while_it_moved_its_files_is_completed_by_the_next(
    tmp_path, monkeypatch, survived
):
    path = write_log(tmp_path)
    run(preparation(path, targets_per_user=2), tmp_path / "whole")
    run(preparation(path), tmp_path / "out")
    moves, replace = [], os.replace

    def move_and_die(source, target):
        if len(moves) == survived:
            raise KilledError
        moves.append(target)
        replace(source, target)

    monkeypatch.setattr(outputs, "os", types.SimpleNamespace(replace=move_and_die))
    with contextlib.suppress(KilledError):
        run(preparation(path, targets_per_user=2), tmp_path / "out")
    monkeypatch.undo()
    assert run(preparation(path, targets_per_user=2), tmp_path / "out")
    assert all_bytes(tmp_path / "out") == all_bytes(tmp_path / "whole")


def test_what_the_manifest_lists_outside_its_folder_is_not_touched(tmp_path):
    path = write_log(tmp_path)
    run(preparation(path), tmp_path / "out")
    manifest = read_json(tmp_path / "out" / MANIFEST_FILE, "", "")
    manifest["files"]["../UserBehavior.csv"] = {}
    (tmp_path / "out" / MANIFEST_FILE).write_text(sealed(manifest))
    with pytest.raises(ValueError, match="not in its folder"):
        run(preparation(path, seed=5), tmp_path / "out")
    assert pathlib.Path(path).is_file()


@pytest.mark.parametrize(
    "fractions", [(0.8, 0.1, 0.2), (float("inf"), 0.1, 0.1), (float("nan"), 0, 0)]
)
def test_fractions_are_finite_and_one_at_most_together(fractions):
    with pytest.raises(ValueError, match="1 at most together"):
        Protocol(fractions=fractions)


def test_two_preparations_of_one_folder_do_not_mix(tmp_path):
    request = preparation(write_log(tmp_path))
    engine = local.LocalEngine(tmp_path / "out" / ".preparing")
    with engine.session("other"), pytest.raises(ValueError, match="another preparation is writing"):
        run(request, tmp_path / "out")


@pytest.mark.skipif(not SAMPLE.is_file(), reason=f"needs the Taobao sample {SAMPLE}")
def test_the_genuine_sample_is_prepared(tmp_path):
    card = run(preparation(os.fspath(SAMPLE)), tmp_path / "out")
    assert (card["partition"]["lines"], card["histories"]["users"]) == (65_407, 630)
    assert not any(card["leaks"].values())
    assert sum(map(len, records(tmp_path / "out").values())) == 630


def test_side_and_numeric_features_of_a_table_are_in_every_history_at_their_event(tmp_path):
    lines = ["user_id,item_id,timestamp,stay,paid,city"]
    for user, item, _, behavior, second in rows_of(users=9, events=7):
        paid = item * 0.5 if behavior == "buy" else ""
        city = ("", "Rome", "Köln", "Oslo, N")[item % 4]
        lines.append(f'{user},{item},{second},{item % 5},{paid},"{city}"')
    (tmp_path / "log.csv").write_text("\n".join(lines) + "\n")
    options = {
        "numeric_columns": ["dwell=stay", "paid_price=paid"],
        "side_feature_columns": ["location=city"],
    }
    reader = TableReader([str(tmp_path / "log.csv")], options)
    output = tmp_path / "out"
    run(Preparation(reader, Protocol(), Limits(buckets=2)), output)
    schema = Schema.load(output)
    assert (schema.side_features, schema.numeric_features) == (
        ("location",),
        ("dwell", "paid_price"),
    )
    assert not {"cand_dwell", "user_dwell", "cand_location"} & set(schema.features())
    cities = (output / "vocabulary" / "location.txt").read_text().splitlines()
    assert sorted(cities) == ["Köln", "Oslo, N", "Rome"]
    items = (output / "vocabulary" / "item_id.txt").read_text().split()
    seen = set()
    for record in itertools.chain(*records(output).values()):
        names = ("hist_item_id", "hist_dwell", "hist_paid_price", "hist_location")
        for item, dwell, paid, place in zip(*(record[name] for name in names), strict=True):
            if item >= FIRST_ID:
                raw = int(items[item - FIRST_ID])
                assert dwell == 1 + 1000 * (raw % 5)
                assert paid in (0, 1 + 500 * raw)
                known = cities[place - FIRST_ID] if place >= FIRST_ID else ""
                assert known == ("", "Rome", "Köln", "Oslo, N")[raw % 4]
                seen.add(bool(paid))
    assert seen == {False, True}
