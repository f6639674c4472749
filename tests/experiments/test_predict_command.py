"""The command that writes scores: what it writes, what it prints, and what it refuses."""

import pandas as pd
import pytest

from dgin_tf.inputs.pipeline import PreparedData
from experiments.running import runs
from tests.data_prep import logs
from tests.experiments.test_earlier_runs import small
from tests.forked_commands import ForkedCommands

ROWS = logs.rows_of(users=23, events=11)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data set, one without whole histories, and a run."""
    folder = tmp_path_factory.mktemp("predict")
    path = logs.write_log(folder, ROWS)
    request = logs.preparation(path, targets_per_user=3)
    logs.run(request, folder / "data")
    runs.train_seeds(small("base_model"), str(folder / "data"), folder / "run", [1])
    return folder


@pytest.fixture(scope="module")
def commands(folder):
    runner = ForkedCommands(folder)
    yield runner
    runner.close()


def flags(folder):
    return f"--data_dir={folder / 'data'}", f"--model_dir={folder / 'run'}"


def test_a_split_has_a_row_for_every_example(folder, commands):
    output = folder / "scores.parquet"
    printed = commands.succeed("experiments.predict", *flags(folder), f"--output={output}")
    examples = sum(shard.candidates for shard in PreparedData(folder / "data").shards("test"))
    assert printed == f"{examples} scores in {output}\n"
    table = pd.read_parquet(output)
    assert len(table) == examples
    assert table["score"].between(0, 1).all()
    known = {(str(u), str(i), t) for u, i, _, _, t in ROWS}
    clicks = table[(table["label"] == 1) & table["item"].notna()]
    assert set(zip(clicks["user"], clicks["item"], clicks["time"], strict=True)) <= known
    # The metrics' command writes the same table, and both replace their own output.
    evaluate = ("experiments.evaluate", *flags(folder), f"--predictions={output}")
    assert f"{examples} scores in {output}" in commands.succeed(*evaluate)
    pd.testing.assert_frame_equal(pd.read_parquet(output), table)


def test_a_table_keeps_its_rows_and_its_order(folder, commands):
    rows = [(u, i, t, n % 2) for n, (u, i, _, _, t) in enumerate(ROWS[:40])]
    rows += [("nobody", 5, logs.START, 0), (1, "new", logs.START, 1), (1, 5, 10**9, 0)]
    table = pd.DataFrame(rows, columns=["who", "what", "timestamp", "label"])
    table.to_csv(folder / "mine.csv", index=False)
    output = folder / "mine_scores.csv"
    printed = commands.succeed(
        "experiments.predict",
        *flags(folder),
        f"--input={folder / 'mine.csv'}",
        "--user_column=who",
        "--item_column=what",
        f"--output={output}",
    )
    scores = pd.read_csv(output, dtype={"user": str, "item": str})
    assert list(scores) == ["user", "item", "time", "label", "score", "history_length"]
    assert scores["user"].tolist() == table["who"].astype(str).tolist()
    assert scores["item"].tolist() == table["what"].astype(str).tolist()
    assert (scores["time"] == table["timestamp"]).all()
    assert printed.startswith(f"43 scores in {output}; of unknown users 1, of unknown items ")
    early = {row: sum(1 for u, _, _, _, t in set(ROWS) if u == rows[row][0] and t < rows[row][2])
             for row in range(40)}  # fmt: skip
    assert scores["history_length"][:40].tolist() == [early[row] for row in range(40)]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--output=s.json"], "ends in .csv or .parquet; got 's.json'"),
        (
            ["--output={}/run/config.csv", "--split=test", "--input=x.csv"],
            "expected one of --split",
        ),
        (["--output={}/log.csv"], "was not written by this command"),
        (["--output={}/o.csv", "--input={}/none.csv"], "found no such file"),
        (["--output={}/o.csv", "--input={}/UserBehavior.csv"], "has no column 'user_id'"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_nothing(folder, commands, more, message):
    (folder / "log.csv").write_text("mine\n")
    before = sorted(path.name for path in folder.iterdir())
    done = commands.run("experiments.predict", *flags(folder), *(m.format(folder) for m in more))
    assert (done.returncode, len(done.errors)) == (2, 1), done.text
    assert message in done.errors[0]
    assert sorted(path.name for path in folder.iterdir() if path.name != ".written.json") == [
        name for name in before if name != ".written.json"
    ]
    assert (folder / "log.csv").read_text() == "mine\n"


def test_a_table_needs_whole_histories(folder, commands):
    import dataclasses

    path = logs.write_log(folder, ROWS)
    request = dataclasses.replace(logs.preparation(path, targets_per_user=3), whole_histories=False)
    logs.run(request, folder / "without")
    (folder / "x.csv").write_text("user_id,item_id,timestamp\n1,2,3\n")
    done = commands.run(
        "experiments.predict",
        f"--data_dir={folder / 'without'}",
        f"--model_dir={folder / 'run'}",
        f"--input={folder / 'x.csv'}",
        f"--output={folder / 'none.csv'}",
    )
    assert (done.returncode, len(done.errors)) == (2, 1), done.text
    assert "have no whole histories" in done.errors[0]
    assert not (folder / "none.csv").exists()
