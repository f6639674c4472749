"""Protocol `examples_file`: the records are the lines of the examples file, or there is an error."""

import csv
import dataclasses
import gzip
import pathlib

import numpy as np
import pytest

from data_prep import examples_file
from data_prep.engines.local import LocalEngine
from data_prep.pipeline import Preparation, prepare, work_folder
from data_prep.protocol import EXAMPLES_FILE, PAPER, Limits, Protocol
from data_prep.readers.movielens import MovieLensReader
from data_prep.readers.taobao import TaobaoReader
from data_prep.stages import leaks
from dgin_tf.records import SPLITS, load_catalogue
from tests.data_prep.logs import raw_ids, records, rows_of, run, write_log

REAL = pathlib.Path(__file__).resolve().parents[3] / "shared/data/ml-1m-partial"
SPLIT_OF = ("train", "valid", "test")


def histories(rows):
    """User -> (second, item) of its events, by second and item."""
    return {u: sorted({(t, i) for v, i, _, _, t in rows if v == u}) for u in {r[0] for r in rows}}


def lines_of(rows, targets=3, seed=1):
    """Lines for the last events of every user, as (user, split, position, second, item, negative)."""
    rng, lines = np.random.default_rng(seed), []
    items = sorted({row[1] for row in rows})
    for user, events in sorted(histories(rows).items()):
        left = sorted(set(items) - {item for _, item in events})
        for position in range(max(1, len(events) - targets), len(events)):
            second, item = events[position]
            negative = int(rng.choice(left))
            lines.append([user, SPLIT_OF[user % 3], position, second, item, negative])
    return lines


def write_examples(folder, lines, header=examples_file.COLUMNS):
    path = folder / "examples.csv.gz"
    with gzip.open(path, "wt", newline="") as file:
        csv.writer(file).writerows([header, *lines])
    return str(path)


def request(folder, rows, examples, form="strict"):
    reader = TaobaoReader([write_log(folder, rows)], {})
    return Preparation(reader, Protocol(EXAMPLES_FILE, form), Limits(buckets=3), 1, examples)


@pytest.fixture
def rows():
    return rows_of(users=29, events=11, items=97, seed=5)


def test_the_records_are_the_lines(tmp_path, rows):
    lines = lines_of(rows)
    run(request(tmp_path, rows, write_examples(tmp_path, lines[::-1])), tmp_path / "out")
    users, items = (raw_ids(tmp_path / "out", name) for name in ("user_id", "item_id"))
    found = []
    prepared = records(tmp_path / "out")
    for split, name in zip(SPLITS, SPLIT_OF, strict=True):
        for record in prepared[split]:
            ids = [int(items.get(i, -1)) for i in record["cand_item_id"]]
            rest = zip(record["cand_position"][::2], record["cand_timestamp"][::2], strict=True)
            pairs = zip(rest, ids[::2], ids[1::2], strict=True)
            user = int(users[record["user_id"][0]])
            found += [[user, name, int(p), int(t), a, b] for (p, t), a, b in pairs]
    known = {int(raw) for raw in items.values()}
    hidden = [[*line[:4], *(i if i in known else -1 for i in line[4:])] for line in lines]
    assert sorted(found) == sorted(hidden)


def test_events_of_the_targets_second_that_sort_before_it_are_in_the_history(tmp_path, rows):
    second = max(row[4] for row in rows)
    rows = [*rows, (1, 200, 1, "pv", second), (1, 201, 1, "pv", second)]
    card = run(request(tmp_path, rows, write_examples(tmp_path, lines_of(rows))), tmp_path / "out")
    user = {raw: number for number, raw in raw_ids(tmp_path / "out", "user_id").items()}["1"]
    found = sum(records(tmp_path / "out").values(), [])
    (record,) = [record for record in found if record["user_id"][0] == user]
    assert record["hist_timestamp"][-1] == record["cand_timestamp"][-1] == second
    assert card["leaks"][leaks.OWN_EVENT] == 0
    assert leaks.OWN_SECOND not in card["leaks"]


def test_the_vocabulary_is_training_users_events_and_training_lines_items(tmp_path, rows):
    lines = lines_of(rows)
    run(request(tmp_path, rows, write_examples(tmp_path, lines)), tmp_path / "out")
    events = [i for user, own in histories(rows).items() if user % 3 == 0 for _, i in own]
    named = {line[5] for line in lines if line[1] == "train"} | set(events)
    items = raw_ids(tmp_path / "out", "item_id")
    assert {int(raw) for raw in items.values()} == named
    counts = load_catalogue(tmp_path / "out")["count"]
    assert counts[2:].tolist() == [events.count(int(raw)) for raw in items.values()]


def test_a_negative_that_the_log_does_not_have_is_an_item_of_unknown_category(tmp_path, rows):
    lines = lines_of(rows)
    number = next(n for n, line in enumerate(lines) if line[1] == "train")
    lines[number][5] = 10**12
    run(request(tmp_path, rows, write_examples(tmp_path, lines)), tmp_path / "out")
    ids = {raw: number for number, raw in raw_ids(tmp_path / "out", "item_id").items()}
    catalogue = load_catalogue(tmp_path / "out")
    new = ids[str(10**12)]
    assert (catalogue["count"][new], catalogue["category_id"][new]) == (0, 1)


@pytest.mark.parametrize(("column", "value"), [(0, 10**9), (2, 10**6), (2, -1), (3, 5), (4, 10**9)])
def test_a_line_that_fits_no_event_is_an_error_that_names_it(tmp_path, rows, column, value):
    lines = lines_of(rows)
    lines[7][column] = value
    with pytest.raises(
        ValueError, match="line 9 of the examples file .* names an event that the log"
    ):
        run(request(tmp_path, rows, write_examples(tmp_path, lines)), tmp_path / "out")


def test_a_negative_that_the_user_has_fails_the_strict_form_alone(tmp_path, rows):
    lines = lines_of(rows)
    lines[4][5] = histories(rows)[lines[4][0]][0][1]
    examples = write_examples(tmp_path, lines)
    if lines[4][5] == lines[4][4]:
        pytest.skip("this seed repeats an item")
    with pytest.raises(ValueError, match="the examples leak: 1 negatives that the user has"):
        run(request(tmp_path, rows, examples), tmp_path / "out")
    assert run(request(tmp_path, rows, examples, form=PAPER), tmp_path / "out")["splits"]


def test_a_user_in_two_splits_fails(tmp_path, rows):
    lines = lines_of(rows)
    lines[0][1] = "test" if lines[0][1] != "test" else "train"
    with pytest.raises(ValueError, match="1 users in more than one split"):
        run(request(tmp_path, rows, write_examples(tmp_path, lines)), tmp_path / "out")


@pytest.mark.parametrize(
    ("column", "value", "sentence"),
    [
        (1, "dev", "line 5: expected split to be one of train, validation, test, valid; got 'dev'"),
        (2, "x", "line 5: expected position to be an integer of at most 18 digits; got 'x'"),
        (3, "", "line 5: expected timestamp to be an integer"),
        (5, "1.5", "line 5: expected negative to be an integer"),
    ],
)
def test_a_line_of_another_kind_is_an_error_that_names_it(tmp_path, rows, column, value, sentence):
    lines = lines_of(rows)
    lines[3][column] = value
    with pytest.raises(ValueError, match=sentence):
        examples_file.read_examples(write_examples(tmp_path, lines), ())


def test_missing_columns_and_missing_lines_are_named(tmp_path):
    with pytest.raises(ValueError, match="missing are negative"):
        examples_file.read_examples(write_examples(tmp_path, [], examples_file.COLUMNS[:-1]), ())
    with pytest.raises(ValueError, match="found a header alone"):
        examples_file.read_examples(write_examples(tmp_path, []), ())
    with pytest.raises(FileNotFoundError, match="no examples file"):
        examples_file.read_examples(str(tmp_path / "none.csv"), ())


def test_the_examples_file_belongs_to_this_protocol_alone(tmp_path, rows):
    with pytest.raises(ValueError, match="protocol examples_file needs --examples=FILE"):
        request(tmp_path, rows, "")
    with pytest.raises(ValueError, match="no other protocol takes it"):
        dataclasses.replace(request(tmp_path, rows, "x.csv"), protocol=Protocol())


def pooled_auc(score, label):
    """Probability that a positive scores higher than a negative; ties count one half."""
    values, rank = np.unique(score, return_inverse=True)
    positive = np.bincount(rank, label, len(values))
    negative = np.bincount(rank, 1 - label, len(values))
    below = np.cumsum(negative) - negative
    return np.sum(positive * (below + negative / 2)) / (positive.sum() * negative.sum())


@pytest.mark.skipif(not REAL.is_dir(), reason=f"needs the MovieLens files of {REAL}")
@pytest.mark.parametrize(
    ("name", "popularity"),
    [("reference_examples", 0.850), ("reference_examples_popular_negatives", 0.516)],
)
def test_the_reference_examples_have_their_documented_figures(tmp_path, name, popularity):
    reader = MovieLensReader([str(REAL / "ratings_ge4_all_users.dat.xz")], {})
    wanted = Preparation(
        reader, Protocol(EXAMPLES_FILE), Limits(buckets=2), examples=str(REAL / f"{name}.csv.xz")
    )
    engine = LocalEngine(work_folder(tmp_path), progress=False)
    card = prepare(wanted, tmp_path, engine)
    rows = {split: figures["rows"] for split, figures in card["splits"].items()}
    assert rows == {"train": 67_923, "validation": 9_302, "test": 8_294}
    found = records(tmp_path)
    cuts = {s: np.concatenate([r["cand_position"] for r in found[s]]) for s in found}
    means = {split: round(float(np.minimum(cut, 200).mean()), 1) for split, cut in cuts.items()}
    assert means == {"train": 75.3, "validation": 73.5, "test": 72.1}
    items = np.concatenate([record["cand_item_id"] for record in found["test"]])
    label = np.concatenate([record["label"] for record in found["test"]])
    assert round(pooled_auc(load_catalogue(tmp_path)["count"][items], label), 3) == popularity
