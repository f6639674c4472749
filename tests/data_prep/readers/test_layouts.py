"""Layouts of public logs, tiny: the readers that have one of their own, and the commands that docs/layouts.md shows."""

import json
import re
import shlex
import subprocess

import pytest

from data_prep.events import CATEGORY, ITEM, NO_IMPRESSION, SPLIT, TIME, USER
from data_prep.pipeline import Preparation
from data_prep.protocol import IMPRESSIONS, Limits, make_protocol
from data_prep.readers.amazon import AmazonReader
from data_prep.readers.longctr import LongCtrReader
from data_prep.readers.mind import MindReader
from data_prep.readers.movielens import MovieLensReader
from data_prep.readers.table import TableReader
from dgin_tf.records import LABEL
from dgin_tf.schema import REQUEST
from tests.data_prep.layouts import DAY, longctr, mind, ml_100k, write_layouts
from tests.data_prep.logs import raw_ids, records, run
from tests.data_prep.readers.reading import as_rows, read_all
from tests.forked_commands import ForkedCommands
from tests.pages import ROOT, blocks


def test_ml_100k_has_the_first_flagged_genre_and_the_users_profile(tmp_path):
    reader = MovieLensReader([str(ml_100k(tmp_path))], {})
    assert as_rows(read_all(reader), USER, ITEM, CATEGORY, TIME) == [
        (3, 1, "Comedy", DAY),
        (5, 2, "Action", DAY + 9),
        (3, 7, "", DAY + 20),
    ]
    profiles = reader.profiles().set_index(USER)
    assert profiles.loc[5, "user_age"] == "53"
    assert profiles.loc[3, "user_gender"] == "M"
    assert "Amélie" in reader.titles()["title"].tolist()


@pytest.mark.parametrize("name", ["any", "stars.txt"])
def test_files_of_movielens_may_be_called_anything_where_flags_name_them(tmp_path, name):
    (tmp_path / name).write_text(f"3::1::5::{DAY}\n")
    (tmp_path / "films").write_text("1::Toy Story (1995)::Comedy|Drama\n")
    (tmp_path / "people").write_text("3::F::25::15::55117\n")
    options = {"movies": str(tmp_path / "films"), "users": str(tmp_path / "people")}
    reader = MovieLensReader([str(tmp_path / name)], options)
    assert as_rows(read_all(reader), USER, ITEM, CATEGORY) == [(3, 1, "Comedy")]
    assert reader.profiles()["user_age"].tolist() == ["25"]
    with pytest.raises(FileNotFoundError, match="check --movies"):
        MovieLensReader([str(tmp_path / name)], {"movies": "nothing"})


def test_metadata_of_amazon_may_be_called_anything_where_a_flag_names_them(tmp_path):
    review = {"reviewerID": "A1", "asin": "B1", "overall": 5.0, "unixReviewTime": DAY}
    (tmp_path / "log").write_text(json.dumps(review) + "\n")
    (tmp_path / "things").write_text(json.dumps({"asin": "B1", "category": ["x", "y"]}) + "\n")
    reader = AmazonReader([str(tmp_path / "log")], {"meta": str(tmp_path / "things")})
    assert as_rows(read_all(reader), USER, ITEM, CATEGORY) == [("A1", "B1", "y")]


def test_a_line_of_mind_is_its_impressions_and_its_history(tmp_path):
    log = read_all(MindReader([str(mind(tmp_path))], {}))
    rows = as_rows(log, USER, ITEM, CATEGORY, TIME, LABEL, REQUEST)
    first = [row for row in rows if row[5] == 1]
    assert first == [("U1", "N3", "c1", DAY + 2, 1, 1), ("U1", "N4", "c0", DAY + 2, 0, 1)]
    past = {row[:4] for row in rows if row[4] == NO_IMPRESSION}
    assert past == {("U1", "N1", "c1", 1570838400), ("U1", "N2", "c0", 1570838401)}
    assert sum(row[4] == 1 for row in rows) == 2
    assert log.bad.empty


def test_parts_of_mind_are_prepared_together_and_split_at_a_day(tmp_path):
    parts = [str(mind(tmp_path)), str(mind(tmp_path, "dev", users=("U3", "U1")))]
    reader = MindReader(parts, {})
    cuts = {"time_cuts": (DAY + 3 * 3600, DAY + 3 * 3600)}
    protocol = make_protocol(IMPRESSIONS, "strict", **cuts)
    run(Preparation(reader, protocol, Limits(buckets=2)), tmp_path / "out")
    users, items = raw_ids(tmp_path / "out", "user_id"), raw_ids(tmp_path / "out", "item_id")
    stored = records(tmp_path / "out")
    assert [len(stored[name]) for name in ("train", "validation", "test")] == [3, 0, 2]
    for record in stored["test"]:
        assert record["cand_position"].tolist() == [2]
        history = [items[item] for item in record["hist_item_id"]]
        assert history == ["N1", "N2"]
        assert users[record["user_id"][0]] in ("U1", "U3")


def test_the_part_of_mind_without_labels_is_refused(tmp_path):
    folder = mind(tmp_path)
    lines = (folder / "behaviors.tsv").read_text()
    (folder / "behaviors.tsv").write_text(re.sub(r"-[01]\b", "", lines))
    with pytest.raises(
        ValueError, match=r"labels, such as N123-1.*test part of MIND has no labels"
    ):
        MindReader([str(folder)], {}).pieces()
    (folder / "news.tsv").unlink()
    with pytest.raises(FileNotFoundError, match=r"no news\.tsv beside"):
        MindReader([str(folder)], {})


def test_a_sample_of_longctr_sees_the_first_events_of_its_user(tmp_path):
    sequences, samples = longctr(tmp_path)
    reader = LongCtrReader([str(tmp_path)], {})
    assert set(as_rows(read_all(reader), SPLIT)) == {(0,), (1,), (2,), (NO_IMPRESSION,)}
    protocol = make_protocol(IMPRESSIONS, "strict", split_by="given")
    run(Preparation(reader, protocol, Limits(buckets=2)), tmp_path / "out")
    items, users = raw_ids(tmp_path / "out", "item_id"), raw_ids(tmp_path / "out", "user_id")
    seen = 0
    stored = records(tmp_path / "out")
    for number, split in enumerate(("train", "validation", "test")):
        own = samples[samples.index % 3 == number]
        for record in stored[split]:
            user = int(users[record["user_id"][0]])
            places = own[own.user_index == user].sort_values("seq_len")
            assert record["cand_position"].tolist() == places.seq_len.tolist()
            assert record["label"].tolist() == places.is_click.tolist()
            past = [items.get(item) for item in record["hist_item_id"]]
            for item, name in zip(sequences[user], past, strict=False):
                assert name in (None, str(item))
            seen += len(places)
    assert seen == len(samples)
    with pytest.raises(FileNotFoundError, match=r"samples and user_info\.parquet"):
        LongCtrReader([str(tmp_path / "out")], {})


@pytest.fixture(scope="module")
def layouts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("layouts")
    write_layouts(folder)
    return folder


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    commands = ForkedCommands(tmp_path_factory.mktemp("output"))
    yield commands
    commands.close()


FILES = ("input", "item_table", "behaviors", "ratings", "movies", "users", "meta", "output_dir")
SHOWN = [c for block in blocks(ROOT / "docs/layouts.md", "bash") for c in block.commands()]


def in_folder(argument, folder):
    """A flag with its files in a folder."""
    name, _, value = argument.partition("=")
    if name.removeprefix("--") not in FILES:
        return argument
    return f"{name}={','.join(str(folder / path) for path in value.split(','))}"


@pytest.mark.parametrize("command", SHOWN, ids=lambda c: c.rpartition("--output_dir=")[2] or "join")
def test_a_shown_command_prepares_a_tiny_log_of_its_layout(command, layouts, commands):
    if not command.startswith("python -m data_prep.prepare"):
        subprocess.run(command, shell=True, check=True, cwd=layouts)
        return
    arguments = [in_folder(argument, layouts) for argument in shlex.split(command)[3:]]
    commands.succeed("data_prep.prepare", *arguments, "--workers=1", "--noprogress")
    output = layouts / command.rpartition("--output_dir=")[2]
    card = json.loads((output / "data_card.json").read_text())
    assert card["partition"]["bad_rows"] == 0
    assert card["splits"]["train"]["positives"] > 0
    if "item_table" in command or "category" in command:
        assert card["vocabulary"]["categories"] > 1
        assert card["vocabulary"]["items_without_category"] < card["vocabulary"]["items"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("source_spec: {train: [{type: tfrecord, features: [a], files: [x]}]}", "of type tfrecord"),
        ("feature_spec: {}", "whose source_spec has chunks"),
        ("source_spec: [1", "whose source_spec has chunks"),
        (
            "source_spec: {a: [{type: csv, features: [a], files: [x]}], "
            "b: [{type: csv, features: [b], files: [y]}]}",
            "the same features in the same order; got 2 kinds",
        ),
    ],
)
def test_specifications_of_features_that_cannot_be_read_are_refused(tmp_path, content, message):
    (tmp_path / "feature_spec.yaml").write_text(content)
    with pytest.raises(ValueError, match=message):
        TableReader([str(tmp_path / "feature_spec.yaml")], {})
