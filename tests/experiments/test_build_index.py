"""The command that builds the behavior index: what it prints, and what it refuses."""

import dataclasses
import shutil
import subprocess
import sys

import pytest

from dgin_tf.records import Manifest
from dgin_tf.schema import Schema
from dgin_tf.stores.behavior_index import BehaviorIndex
from tests.prepared import write_prepared


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("prepared")
    write_prepared(path)
    return path


def run(*arguments):
    command = [sys.executable, "-m", "experiments.build_index", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_command_builds_an_index_and_says_what_it_holds(data_dir, tmp_path):
    output = tmp_path / "indexes" / "items"
    done = run(
        f"--data_dir={data_dir}",
        f"--output_dir={output}",
        "--key=item_id",
        "--max_events_per_key=2",
    )
    assert done.returncode == 0, done.stderr
    metadata = BehaviorIndex(output, Schema.load(data_dir), "item_id").metadata
    assert metadata.max_events_per_key == 2
    assert f"{metadata.users} users, {metadata.lists:,} lists by item_id" in done.stdout
    assert f"{metadata.bytes_per_event:.2f} an event" in done.stdout
    assert "keys looked up in a second of one core" in done.stdout
    assert "reading records: 100%" in done.stderr
    assert "tensorflow" not in done.stderr


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--key=brand", "expected a key among item_id, category_id; got 'brand'"),
        ("--data_dir=nowhere", "expected a prepared data set with schema.json in 'nowhere'"),
        ("--max_events_per_key=0", "max_events_per_key"),
        ("--output_dir=tests", "which is no part of one"),
    ],
)
def test_a_mistake_is_one_sentence(data_dir, tmp_path, flag, message):
    done = run(f"--data_dir={data_dir}", f"--output_dir={tmp_path / 'index'}", flag)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_a_limit_of_the_data_is_said(data_dir, tmp_path):
    shutil.copytree(data_dir, tmp_path / "data")
    manifest = Manifest.load(data_dir, Schema.load(data_dir))
    dataclasses.replace(manifest, protocol={"max_history": 7}).save(tmp_path / "data")
    done = run(f"--data_dir={tmp_path / 'data'}", f"--output_dir={tmp_path / 'index'}")
    assert done.returncode == 0, done.stderr
    assert "\nof each user the newest 7 events, to which data_prep.prepare" in done.stdout


def test_an_index_without_users_answers_nothing(tmp_path):
    write_prepared(tmp_path / "data", users=0, buckets=(16,))
    done = run(f"--data_dir={tmp_path / 'data'}", f"--output_dir={tmp_path / 'index'}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("0 users, 0 lists by category_id, 0 events of 0")
    assert "\n0 keys looked up in a second" in done.stdout
