"""Events that are made of a log are those of its prepared histories, for every family of data."""

import gzip
import json

import numpy as np
import pytest

from data_prep import make_events
from data_prep.make_events import EventsOfLog
from data_prep.readers.taobao import TaobaoReader
from dgin_tf.records import load_catalogue
from dgin_tf.schema import HISTORY, Schema
from dgin_tf.serving.center.events import EventParser
from dgin_tf.serving.export.vocabularies import Vocabularies
from tests.data_prep import logs
from tests.experiments.families import MAKERS, write_family
from tests.forked_commands import ForkedCommands


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    commands = ForkedCommands(tmp_path_factory.mktemp("output"))
    yield lambda module, *flags: commands.run(module, "--noprogress", *flags)
    commands.close()


@pytest.mark.parametrize("name", MAKERS)
def test_events_parse_to_the_histories_that_were_prepared(name, run, tmp_path):
    family = write_family(name, tmp_path / "log")
    flags = (f"--dataset={family.dataset}", *family.flags)
    data, output = tmp_path / "data", tmp_path / "events.jsonl"
    prepare = run("data_prep.prepare", *flags, "--workers=1", f"--output_dir={data}")
    assert prepare.returncode == 0, prepare.stderr
    made = run("data_prep.make_events", *flags, f"--output={output}")
    assert made.returncode == 0, made.stderr
    schema = Schema.load(data)
    assert family.has_types == ("behavior_type" in [f.name for f in schema.with_role(HISTORY)])
    parser = EventParser(schema, load_catalogue(data), Vocabularies(data))
    events = {}
    for line in output.read_bytes().splitlines():
        event = parser(line)
        events.setdefault(event.user, []).append(event)
    assert made.stdout.startswith(f"{sum(map(len, events.values()))} events of {len(events)} users")
    records = [record for split in logs.records(data).values() for record in split]
    assert len(records) > len(events) / 2
    for record in records:
        own = events[int(record["user_id"][0])]
        assert [event.sequence for event in own] == list(range(1, len(own) + 1))
        assert len(record["hist_item_id"]) == len(own) - 1  # the last event is the target
        for field in schema.with_role(HISTORY):
            values = [event.values[field.name] for event in own[:-1]]
            np.testing.assert_array_equal(record[f"hist_{field.name}"], values, field.name)


def test_duplicates_are_dropped_and_bad_rows_are_reported_with_their_file(run, tmp_path):
    rows = logs.rows_of(users=23, events=13)
    path = logs.write_log(tmp_path, [*rows, *rows[:3]])
    with open(path, "a", encoding="utf-8") as file:
        file.write("no event\n")
    output = tmp_path / "out" / "events.jsonl"
    flags = ("--dataset=taobao", f"--input={path}", f"--output={output}")
    done = run("data_prep.make_events", *flags)
    count = len(set(rows))
    assert done.stdout.startswith(f"{count} events of 23 users in {output}; "), done.stderr
    assert (
        f"; {len(rows) + 3 - count} exact duplicates were dropped, 1 rows were bad, see "
        in done.stdout
    )
    with gzip.open(f"{output}.quarantine.csv.gz", "rt") as file:
        assert f"UserBehavior.csv,{len(rows) + 4}," in file.read().splitlines()[1]
    times = [json.loads(line)["timestamp"] for line in output.read_text().splitlines()]
    assert times == sorted(times)
    again = run("data_prep.make_events", *flags)
    assert again.returncode == 2
    assert "is there already; give --overwrite" in again.stderr
    files = sorted(path.name for path in output.parent.iterdir())
    assert files == ["events.jsonl", "events.jsonl.quarantine.csv.gz"]


def test_a_log_that_grows_gives_the_old_lines_first(tmp_path):
    rows = sorted(logs.rows_of(users=7, events=9), key=lambda row: row[-1])
    texts = []
    for count in (40, len(rows)):
        (folder := tmp_path / str(count)).mkdir()
        reader = TaobaoReader([logs.write_log(folder, rows[:count])], {})
        texts.append("".join(EventsOfLog(reader, (), folder, False).lines()))
    assert texts[1].startswith(texts[0])


def test_an_unknown_behavior_type_is_refused(tmp_path):
    reader = TaobaoReader([logs.write_log(tmp_path)], {})
    with pytest.raises(ValueError, match=r"among \['pv', .*got \['look'\]"):
        EventsOfLog(reader, ("look",), tmp_path, False)


def test_the_help_has_a_sample_line():
    assert '{"user_id": 17, "sequence": 12, ' in make_events.__doc__
