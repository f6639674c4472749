"""The recorded order of a table: within a second by its fractions, at one time by the file."""

import json

import numpy as np
import pandas as pd
import pytest

from data_prep.pipeline import Preparation
from data_prep.protocol import EVERY_EVENT, Limits, Protocol, make_protocol
from data_prep.readers.table import TableReader
from tests.data_prep.logs import START, raw_ids, records, run
from tests.forked_commands import ForkedCommands


def clicks(users=7, events=59, step_ms=500):
    """Events of each user so many milliseconds apart, of items in no order; all in order in the file."""
    rng = np.random.default_rng(1)
    rows = [
        (user, int(item), START * 1000 + user * 37 + number * step_ms)
        for user in range(users)
        for number, item in enumerate(rng.permutation(3 * events)[:events])
    ]
    return pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])


def prepared(folder, table, protocol, **options):
    folder.mkdir(exist_ok=True)
    table.to_csv(folder / "log.csv", index=False)
    reader = TableReader([str(folder / "log.csv")], {"time_unit": "auto", **options})
    run(Preparation(reader, protocol, Limits(buckets=2)), folder / "out")
    return folder / "out"


def histories(output):
    """User -> raw items of the longest stored history."""
    users, items = raw_ids(output, "user_id"), raw_ids(output, "item_id")
    longest = {}
    for record in sum(records(output).values(), []):
        history = [items.get(item, "?") for item in record["hist_item_id"]]
        user = int(users[record["user_id"][0]])
        longest[user] = max(history, longest.get(user, []), key=len)
    return longest


@pytest.mark.parametrize("form", ["csv", "shuffled"])
def test_events_half_a_second_apart_are_in_order_and_the_one_before_the_target_is_seen(
    tmp_path, form
):
    table = clicks()
    mixed = table.sample(frac=1.0, random_state=0) if form == "shuffled" else table
    everybody = Protocol(fractions=(1.0, 0.0, 0.0), targets_per_user=1)
    output = prepared(tmp_path, mixed, everybody)
    for user, history in histories(output).items():
        own = table[table.user_id == user].item_id.astype(str).tolist()
        known = [item if item in raw_ids(output, "item_id").values() else "?" for item in own]
        assert history == known[:-1]


def test_every_event_sees_what_came_strictly_before_to_the_millisecond(tmp_path):
    table = clicks(users=2, events=12, step_ms=300)
    table.loc[4, "timestamp"] = table.timestamp[3]  # of one time: neither sees the other
    everything = {"min_history": 0, "negatives": 1, "fractions": (1.0, 0.0, 0.0)}
    output = prepared(tmp_path, table, make_protocol(EVERY_EVENT, "strict", **everything))
    for record in sum(records(output).values(), []):
        positions = record["cand_position"][record["label"] == 1].tolist()
        user = raw_ids(output, "user_id")[record["user_id"][0]]
        assert positions == [0, 1, 2, 3, 3 if user == "0" else 4, *range(5, 12)]


@pytest.mark.parametrize("ties", ["file", "item"])
def test_events_of_one_time_keep_the_order_of_the_file(tmp_path, ties):
    table = clicks(users=3, events=31).assign(timestamp=START)
    table = pd.concat([table, table.iloc[::7]])  # repetitions, of which the first counts
    last = table.drop_duplicates("user_id").assign(timestamp=START + 1, item_id=99)
    everybody = Protocol(fractions=(1.0, 0.0, 0.0))
    output = prepared(tmp_path, pd.concat([last, table]), everybody, ties=ties)
    for user, history in histories(output).items():
        own = table[table.user_id == user].item_id.drop_duplicates().tolist()
        assert list(map(int, history)) == (own if ties == "file" else sorted(own))


def test_commands_tell_the_unit_and_refuse_times_that_are_none(tmp_path):
    commands = ForkedCommands(tmp_path)
    flags = ["--dataset=table", f"--input={tmp_path / 'log.csv'}", "--noprogress", "--workers=1"]
    output = tmp_path / "data"
    clicks().to_csv(tmp_path / "log.csv", index=False)
    done = commands.run("data_prep.prepare", *flags, f"--output_dir={output}")
    assert done.returncode == 0, done.stderr
    first = json.loads((output / "data_card.json").read_text())["splits"]["train"]["first_time"]
    assert START < first < START + 60
    clicks().assign(timestamp=np.arange(413)).to_csv(tmp_path / "log.csv", index=False)
    done = commands.run("data_prep.prepare", *flags, f"--output_dir={tmp_path / 'other'}")
    assert done.returncode == 2
    assert "give --time_unit=index" in done.stderr
    events = [f"--output={tmp_path / 'events.jsonl'}", "--time_unit=index"]
    done = commands.run("data_prep.make_events", *flags[:3], *events)
    assert done.returncode == 0, done.stderr
    commands.close()
