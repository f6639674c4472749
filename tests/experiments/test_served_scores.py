"""Served scores equal a recomputation from the raw log, of every user and with the newest event.

The log is read here by pandas alone, and the model sees whole histories made of it. What a command stored for
serving has to give the same scores.
"""

import dataclasses
import pathlib

import numpy as np
import pandas as pd
import pytest

from dgin_tf.inputs.pipeline import PreparedData
from dgin_tf.records import decode_record
from dgin_tf.serving.online.ranker import Ranker, RawRanker
from dgin_tf.stores.addresses import open_store
from dgin_tf.stores.behavior_engine import BehaviorEngine
from dgin_tf.stores.behavior_index import BehaviorIndex
from dgin_tf.stores.behavior_totals import BehaviorTotals
from tests.forked_commands import ForkedCommands
from tests.serving import exported

NOW = 1_600_000_000
MODELS = {
    "sim_hard": {"short_events": 3, "k": 4},
    "mimn": {"slots": 3, "units": 5},
    "encode": {"clusters": 3, "dim": 2, "short_events": 5},
    "dgin": {"key": "category_id", "groups": 6, "events": 2, "target_events": 4},
}


def make_log():
    """Users with 1 to 19 events, no two of one user at one time."""
    rng, rows = np.random.default_rng(7), []
    for user in range(23):
        count = 1 + int(rng.integers(0, 19)) if user else 1
        times = np.sort(rng.choice(100_000, count, replace=False)) + NOW
        items = rng.integers(0, 31, count)
        rows += [(f"u{user}", f"i{i}", f"c{i % 7}", t) for i, t in zip(items, times, strict=True)]
    return pd.DataFrame(rows, columns=["user_id", "item_id", "category_id", "timestamp"])


@dataclasses.dataclass(frozen=True)
class World:
    """A raw log, its data set, and a runner of commands."""

    commands: ForkedCommands
    folder: pathlib.Path
    log: pd.DataFrame

    @property
    def data(self):
        return PreparedData(self.folder / "data")

    def candidates(self, rows):
        """Two of the user's items and one that nobody has seen, in the ids of the log."""
        items = [rows["item_id"].iloc[0], rows["item_id"].iloc[-1], "never seen"]
        return {"item_id": items, "timestamp": np.full(3, NOW + 200_000)}

    def ids(self, name, values):
        lines = (self.folder / "data" / "vocabulary" / f"{name}.txt").read_text().splitlines()
        table = {word: number for number, word in enumerate(lines, start=2)}
        return np.array([table.get(value, 1) for value in values], np.int32)

    def recomputed(self, model, user):
        """Scores of the model itself for a user's rows of the log."""
        rows = self.log[self.log["user_id"] == user].sort_values("timestamp")
        candidates = self.candidates(rows)
        category = dict(zip(self.log["item_id"], self.log["category_id"], strict=True))
        categories = [category.get(item, "") for item in candidates["item_id"]]
        # An item out of the vocabulary has no category that a catalogue could know.
        known = self.ids("item_id", candidates["item_id"]) > 1
        candidate_categories = np.where(known, self.ids("category_id", categories), 1)
        padding = (0, 23 - len(rows))
        history = {
            "item_id": self.ids("item_id", rows["item_id"]),
            "category_id": self.ids("category_id", rows["category_id"]),
            "timestamp": rows["timestamp"].to_numpy(),
        }
        return model.predict_on_batch(
            {
                **{f"hist_{name}": np.pad(v, padding)[None] for name, v in history.items()},
                "hist_mask": (np.arange(23) < len(rows))[None],
                "user_id": self.ids("user_id", [user]),
                "cand_item_id": self.ids("item_id", candidates["item_id"])[None],
                "cand_category_id": candidate_categories[None].astype(np.int32),
                "cand_timestamp": candidates["timestamp"][None],
                "cand_mask": np.ones((1, 3), bool),
                "label": np.zeros((1, 3), np.float32),
            }
        )[0]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    log = make_log()
    log.sample(frac=1, random_state=3).to_csv(folder / "log.csv", index=False)
    commands = ForkedCommands(folder)
    commands.succeed(
        "data_prep.prepare",
        "--dataset=table",
        f"--input={folder / 'log.csv'}",
        "--category_column=category_id",
        "--fractions=0.5,0.2,0.3",
        f"--output_dir={folder / 'data'}",
        "--noprogress",
        "--workers=1",
    )
    yield World(commands, folder, log)
    commands.close()


def by_index(world, export):
    folder = world.folder / "index"
    flags = (f"--data_dir={world.data.data_dir}", f"--output_dir={folder}", "--noprogress")
    printed = world.commands.succeed("experiments.build_index", *flags)
    # Every user and every event of the log, the newest included.
    assert printed.startswith(f"{world.log['user_id'].nunique()} users, ")
    assert f"events of {len(world.log)} " in printed
    return Ranker(export, index=BehaviorIndex(folder, world.data.schema, "category_id"))


def by_warm_up(world, export):
    store = f"lmdb:{world.folder / 'center'}"
    flags = (f"--data_dir={world.data.data_dir}", f"--export_dir={export}", f"--store={store}")
    printed = world.commands.succeed(
        "experiments.interest_center", "--action=warm_up", *flags, "--noprogress"
    )
    assert printed.startswith(f"{world.log['user_id'].nunique()} states ")
    return Ranker(export, states=open_store(store))


def by_extraction(world, export):
    store = f"lmdb:{world.folder / 'interests'}"
    flags = (f"--data_dir={world.data.data_dir}", f"--export_dir={export}", f"--store={store}")
    printed = world.commands.succeed("experiments.extract_interests", *flags, "--noprogress")
    assert printed.startswith(f"{world.log['user_id'].nunique()} users written")
    return Ranker(export, states=open_store(store))


def by_groups(world, export):
    folder, totals = world.folder / "engine", world.folder / "totals"
    store = f"--totals_store=lmdb:{totals}"
    flags = (f"--data_dir={world.data.data_dir}", f"--output_dir={folder}", "--noprogress")
    world.commands.succeed("experiments.build_index", *flags, store)
    groups = f"lmdb:{world.folder / 'groups'}"
    flags = (f"--export_dir={export}", f"--index_dir={folder}", store, f"--groups_store={groups}")
    printed = world.commands.succeed("experiments.keep_groups", *flags, "--noprogress")
    assert printed.startswith(f"{world.log['user_id'].nunique()} states ")
    schema, key = world.data.schema, "category_id"
    index = BehaviorIndex(folder, schema, key)
    counts = open_store(f"lmdb:{totals}").scoped(f"totals.{key}")
    engine = BehaviorEngine(index, BehaviorTotals(counts, schema, key, ["item_id"]))
    return Ranker(export, index=engine, states=open_store(groups))


ROADS = {
    "sim_hard": by_index,
    "mimn": by_warm_up,
    "encode": by_extraction,
    "dgin": by_groups,
}


SLOW = ("mimn", "dgin")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in ROADS]
)
def test_served_scores_equal_a_recomputation_from_the_raw_log(world, name):
    bundle = exported.export(name, world.data, world.folder / name, **MODELS[name])
    ranker = RawRanker(ROADS[name](world, bundle.version.parent))
    for user, rows in world.log.groupby("user_id"):
        served = ranker.rank(user, world.candidates(rows.sort_values("timestamp")))
        expected = world.recomputed(bundle.model, user)
        np.testing.assert_allclose(served, expected, atol=1e-5, err_msg=user)


def test_whole_histories_hold_every_event_of_every_user(world):
    shards = world.data.whole_shards()
    assert sum(shard.users for shard in shards) == world.log["user_id"].nunique()
    assert sum(shard.rows + shard.candidates for shard in shards) == 0


@pytest.mark.parametrize("command", ["build_index", "extract_interests", "interest_center"])
def test_data_without_whole_histories_are_one_sentence(world, command):
    folder = world.folder / "without"
    world.commands.succeed(
        "data_prep.prepare",
        "--dataset=table",
        f"--input={world.folder / 'log.csv'}",
        "--category_column=category_id",
        "--nowhole_histories",
        f"--output_dir={folder}",
        "--noprogress",
        "--workers=1",
    )
    assert not (folder / "whole").exists()
    export = world.folder / "base_model"
    if not export.exists():
        exported.export("base_model", PreparedData(folder), export)
    flags = {
        "build_index": (f"--output_dir={world.folder / 'no'}",),
        "extract_interests": (f"--export_dir={export}", f"--store=lmdb:{world.folder / 'no'}"),
        "interest_center": (
            "--action=warm_up",
            f"--export_dir={export}",
            f"--store=lmdb:{world.folder / 'no'}",
        ),
    }[command]
    done = world.commands.run(f"experiments.{command}", f"--data_dir={folder}", *flags)
    assert (done.returncode, len(done.errors)) == (2, 1), done.text
    assert "have no whole histories, which serving reads" in done.errors[0]
    assert not (world.folder / "no").exists()


def test_a_bundle_gives_rare_ids_the_hashed_ids_that_they_were_trained_with(world):
    folder = world.folder / "hashed"
    world.commands.succeed(
        "data_prep.prepare",
        "--dataset=table",
        f"--input={world.folder / 'log.csv'}",
        "--category_column=category_id",
        "--min_count=5",
        "--hash_buckets=4",
        f"--output_dir={folder}",
        "--noprogress",
        "--workers=1",
    )
    data = PreparedData(folder)
    bundle = exported.export("base_model", data, world.folder / "export_hashed")
    ranker = RawRanker(Ranker(bundle.version))
    items = [*sorted(set(world.log["item_id"])), "never seen"]
    ids = ranker.to_ids({"item_id": items})["item_id"].tolist()
    assert 2 <= min(ids) < 6 < max(ids)  # none is unknown, some share the first four
    in_records = [
        decode_record(data.schema, payload)["hist_item_id"] for _, payload in data.whole_records()
    ]
    assert set(np.concatenate(in_records).tolist()) <= set(ids)
