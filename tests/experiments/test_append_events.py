"""The command that appends events to an index alone, and how it goes on where it was."""

import json
import subprocess
import sys

import pytest

from dgin_tf.stores.addresses import open_store
from dgin_tf.stores.behavior_index import BehaviorIndex
from dgin_tf.stores.index_building import build_index
from tests.prepared import category_of
from tests.serving.exported import make_data

PERSON = 7


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("prepared") / "data")


@pytest.fixture
def index_dir(data, tmp_path):
    build_index(data.data_dir, tmp_path / "index", "category_id")
    return tmp_path / "index"


def run(data, index_dir, *arguments, given=""):
    command = [sys.executable, "-m", "experiments.append_events"]
    command += [f"--data_dir={data.data_dir}", f"--index_dir={index_dir}", *arguments]
    return subprocess.run(
        command, input=given, capture_output=True, text=True, timeout=60, check=False
    )


def line(sequence, item):
    event = {"user_id": f"u{PERSON}", "sequence": sequence, "item_id": f"item {item}"}
    return json.dumps({**event, "timestamp": 1_700_000_000 + sequence}) + "\n"


def test_events_of_a_growing_file_are_appended_once(data, index_dir, tmp_path):
    store, log = f"lmdb:{tmp_path / 'late'}", tmp_path / "log.jsonl"
    arguments = (f"--state_store={store}", f"--events={log}")
    log.write_text(line(1, 5) + line(2, 9))
    done = run(data, index_dir, *arguments)
    assert done.stdout.startswith("2 events appended, 0 were known, 0 bad lines; "), done.stderr
    with open(log, "a", encoding="utf-8") as file:
        file.write(line(2, 9) + line(3, 5))
    assert run(data, index_dir, *arguments).stdout.startswith("1 events appended, 1 were known")
    with open_store(store, "behaviors") as late:
        index = BehaviorIndex(index_dir, data.schema, "category_id", late)
        found = index.history_slice(PERSON, [], newest=3)
    assert found["item_id"].tolist() == [5, 9, 5]
    assert found["category_id"].tolist() == [category_of(item) for item in (5, 9, 5)]
    assert found["timestamp"].tolist() == [1_700_000_001, 1_700_000_002, 1_700_000_003]


def test_standard_input_is_read_to_its_end(data, index_dir, tmp_path):
    flags = ("--events=-", f"--state_store=lmdb:{tmp_path / 's'}", f"--dead_letters={tmp_path}/bad")
    done = run(data, index_dir, *flags, given="{}\n" + line(1, 5))
    assert done.stdout.startswith("1 events appended, 0 were known, 1 bad lines; "), done.stderr
    assert "sequence must be" in (tmp_path / "bad").read_text()


def test_lines_none_of_which_is_an_event_end_with_exit_code_2(data, index_dir, tmp_path):
    flags = ("--events=-", f"--state_store=lmdb:{tmp_path / 's'}", f"--dead_letters={tmp_path}/bad")
    done = run(data, index_dir, *flags, given="{}\nx\n")
    assert done.returncode == 2
    assert (
        "error: none of 2 lines is an event that can be applied, the first because" in done.stderr
    )
    assert f"{tmp_path}/bad" in done.stderr


def test_damaged_late_events_concern_their_user_alone_and_can_be_dropped(data, index_dir, tmp_path):
    store = f"lmdb:{tmp_path / 'late'}"
    flags = ("--events=-", f"--state_store={store}", f"--dead_letters={tmp_path}/bad")
    run(data, index_dir, *flags, given=line(1, 5))
    with open_store(store, "behaviors") as late:
        late.put_many({PERSON: late.get(PERSON)[:-3]})
    other = line(1, 5).replace(f"u{PERSON}", "u9")
    done = run(data, index_dir, *flags, given=line(2, 9) + other)
    assert done.stdout.startswith("1 events appended, 0 were known, 1 bad lines; "), done.stderr
    assert "because: what is stored of this user's events is damaged" in done.stderr
    done = run(data, index_dir, *flags, "--drop_damaged", given=line(2, 9))
    assert done.stdout.startswith(f"user {PERSON}: damaged, dropped\n1 events appended"), (
        done.stderr
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "give --totals_store, or --state_store"),
        (["--totals_store=memory:", "--state_store=memory:"], "leave --state_store out"),
    ],
)
def test_events_need_one_place(data, index_dir, flags, message):
    done = run(data, index_dir, "--events=-", *flags)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
