"""The synthetic log: layout, exact counts, causes, and that the planted statistics are there."""

import dataclasses
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from absl import flags

from data_prep.synthetic import (
    BEHAVIORS,
    PRESETS,
    WINDOW_END,
    WINDOW_START,
    Catalogue,
    Dormancy,
    Population,
    Purchases,
    Stories,
    SyntheticLog,
    Taste,
    Truth,
    draw,
    slots,
    truth_path,
    write_log,
    writing,
)
from data_prep.synthetic import __main__ as command
from data_prep.synthetic.truth import FUNNEL, INTEREST, LONE, REPEAT, RETURN, STORY

COLUMNS = ["user", "item", "category", "behavior", "timestamp"]
SMALL = SyntheticLog(
    Population(users=397, events=31_013, longest=1_009, spread=0.9),
    Catalogue(items=1_013, categories=43, topics_per_category=3),
)


def read(path):
    return pd.read_csv(path, header=None, names=COLUMNS)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("synthetic") / "log.csv"
    truth = write_log(SMALL, path, seed=5, truth_targets=3)
    events = read(path)
    events["thread"], events["mechanism"] = truth.thread, truth.mechanism
    events["position"] = events.groupby("user", sort=False).cumcount()
    return path, truth, events


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(written, tmp_path):
    path, _, _ = written
    write_log(SMALL, tmp_path / "again.csv", seed=5, truth_targets=3)
    write_log(SMALL, tmp_path / "other.csv", seed=6, truth_targets=3)
    assert (tmp_path / "again.csv").read_bytes() == path.read_bytes()
    assert truth_path(tmp_path / "again.csv").read_bytes() == truth_path(path).read_bytes()
    assert (tmp_path / "other.csv").read_bytes() != path.read_bytes()


def test_chunks_do_not_show_in_causes_or_layout(written, tmp_path, monkeypatch):
    monkeypatch.setattr(draw, "_CHUNK_EVENTS", 4_001)
    truth = write_log(SMALL, tmp_path / "log.csv", seed=5, truth_targets=3)
    events = read(tmp_path / "log.csv")
    assert len(events) == SMALL.population.events
    for target in range(0, len(truth.target_user), 53):
        start, stop = truth.cause_offsets[target : target + 2]
        expected = truth.causes(truth.target_user[target], truth.target_position[target])
        np.testing.assert_array_equal(truth.cause_position[start:stop], expected)


def test_the_log_has_taobaos_layout(written):
    _, _, events = written
    assert set(events["behavior"]) == set(BEHAVIORS)
    ids = events["user"].drop_duplicates().astype(str).tolist()
    assert ids == sorted(ids)
    assert (events["user"].diff() != 0).sum() == len(ids)  # one block a user
    assert events["timestamp"].between(WINDOW_START, WINDOW_END - 1).all()
    assert (events.groupby("user")["timestamp"].diff().dropna() > 0).all()
    assert events.groupby("item")["category"].nunique().max() == 1
    assert not path_leftovers(written[0])


def path_leftovers(path):
    return [name for name in path.parent.iterdir() if name.name.endswith(".tmp")]


def test_lengths_keep_their_limits_and_their_sum(written):
    lengths = written[2].groupby("user").size()
    assert lengths.sum() == SMALL.population.events
    assert len(lengths) == SMALL.population.users
    assert (lengths.min(), lengths.max()) == (10, 1_009)
    assert abs(np.log(lengths[lengths > 10]).skew()) < 0.7  # bell-shaped in the logarithm


def test_lengths_reach_from_10_to_54000(tmp_path):
    population = Population(users=1_201, events=200_003, spread=1.5)
    lengths = slots.history_lengths(population, np.random.default_rng(3))
    assert (lengths.min(), lengths.max(), lengths.sum()) == (10, 54_000, 200_003)


@pytest.mark.parametrize(("users", "events"), [(1, 10), (2, 33), (7, 7 * 500), (11, 110)])
def test_lengths_fit_even_where_nothing_is_left_to_choose(users, events):
    population = Population(users=users, events=events, longest=500)
    lengths = slots.history_lengths(population, np.random.default_rng(3))
    assert lengths.sum() == events
    assert lengths.min() >= 10
    assert lengths.max() <= 500


def test_causes_precede_their_effects_and_share_their_category(written):
    _, truth, events = written
    for user in truth.user_id[::29]:
        own = events[events["user"] == user].reset_index(drop=True)
        for position in range(0, len(own), 7):
            causes = truth.causes(user, position)
            assert (causes < position).all()
            same = own["category"][causes] == own["category"][position]
            assert same.all()


def test_an_interest_is_caused_by_every_earlier_event_of_its_thread(written):
    _, truth, events = written
    own = events[events["user"] == truth.user_id[11]].reset_index(drop=True)
    position = int(own.index[own["mechanism"] == INTEREST][-1])
    earlier = own[(own["thread"] == own["thread"][position]) & (own.index < position)]
    assert truth.causes(truth.user_id[11], position).tolist() == earlier.index.tolist()


def test_the_ready_made_causes_are_those_of_the_last_events(written):
    _, truth, _ = written
    lengths = np.diff(truth.offsets)
    expected = [
        (user, n - k) for user, n in zip(truth.user_id, lengths, strict=True) for k in (3, 2, 1)
    ]
    found = list(zip(truth.target_user.tolist(), truth.target_position.tolist(), strict=True))
    assert found == expected
    for target, (user, position) in enumerate(found[::17]):
        start, stop = truth.cause_offsets[target * 17 : target * 17 + 2]
        expected_causes = truth.causes(user, position).tolist()
        assert truth.cause_position[start:stop].tolist() == expected_causes


def test_the_truth_reads_back_and_lists_the_users_of_the_log(written):
    path, truth, events = written
    loaded = Truth.load(path)
    for field in dataclasses.fields(Truth):
        np.testing.assert_array_equal(getattr(loaded, field.name), getattr(truth, field.name))
    np.testing.assert_array_equal(loaded.user_id, events["user"].drop_duplicates())
    assert loaded.offsets[-1] == len(events)


def test_mechanisms_have_the_shares_that_were_asked_for(written):
    _, _, events = written
    shares = events["mechanism"].value_counts(normalize=True)
    purchases, taste = SMALL.purchases, SMALL.taste
    returns = purchases.consider_share + purchases.buy_share
    assert shares[REPEAT] == pytest.approx(purchases.repeat_share, rel=0.25)
    assert shares[FUNNEL] == pytest.approx(returns, rel=0.1)
    clicks = 1.0 - shares[REPEAT] - shares[FUNNEL]
    assert shares[LONE] == pytest.approx(clicks * taste.lone_share, rel=0.1)


def test_a_purchase_follows_a_cart_or_favourite_that_follows_a_click(written):
    funnel = written[2][written[2]["mechanism"] == FUNNEL]
    before = {"buy": {"cart", "fav"}, "cart": {"pv"}, "fav": {"pv"}}
    seen: dict[tuple, set] = {}
    wanted = set(zip(funnel["user"], funnel["item"], strict=True))
    for row in written[2].itertuples():
        key = (row.user, row.item)
        if row.mechanism == FUNNEL:
            assert seen[key] & before[row.behavior]
        if key in wanted:
            seen.setdefault(key, set()).add(row.behavior)


def test_cycles_buy_one_item_again_at_regular_times(written):
    events = written[2]
    views = events[(events["mechanism"] == REPEAT) & (events["behavior"] == "pv")]
    rounds = views.groupby(["user", "thread"])
    assert rounds["item"].nunique().max() == 1
    gaps = rounds["timestamp"].diff()
    gaps = gaps[rounds["timestamp"].transform("size") >= 5]
    by_cycle = gaps.groupby([views["user"], views["thread"]])
    spread = (by_cycle.std() / by_cycle.mean()).median()
    assert spread < 0.5  # of random times it would be 1


def test_the_cause_of_a_repeat_lies_deep_in_the_history(written):
    _, truth, events = written
    views = events[(events["mechanism"] == REPEAT) & (events["behavior"] == "pv")]
    nearest = [
        row.position - causes[-1]
        for row in views.itertuples()
        if len(causes := truth.causes(row.user, row.position))
    ]
    assert np.median(nearest) > 12


DEEP = dataclasses.replace(
    SMALL,
    population=Population(users=61, events=61 * 540, shortest=540, longest=540),
    purchases=Purchases(consider_share=0.0, buy_share=0.0, repeat_share=0.0),
    dormancy=Dormancy(share=0.4, rounds=(3.0, 7.0)),
)


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    path = tmp_path_factory.mktemp("deep") / "log.csv"
    truth = write_log(DEEP, path, seed=3)
    events = read(path)
    events["thread"], events["mechanism"] = truth.thread, truth.mechanism
    events["position"] = events.groupby("user", sort=False).cumcount()
    return truth, events


def test_returns_have_the_share_that_was_asked_for_and_all_events_are_clicks(deep):
    _, events = deep
    assert (events["mechanism"] == RETURN).mean() == pytest.approx(DEEP.dormancy.share, rel=0.1)
    assert set(events["behavior"]) == {"pv"}


def test_the_newest_events_hold_no_cause_of_most_returns(deep):
    _, events = deep
    returns = events[events["mechanism"] == RETURN]
    back = returns.groupby(["user", "thread"])["position"].diff().dropna()
    assert len(back) > 0.5 * len(returns)  # the rest open their thread
    assert (back > 50).mean() > 0.75


def test_a_dormant_interest_comes_back_to_one_category_when_its_period_has_passed(deep):
    _, events = deep
    returns = events[events["mechanism"] == RETURN]
    threads = returns.groupby(["user", "thread"])
    assert threads["category"].nunique().max() == 1
    assert threads["item"].nunique().max() > 1
    gaps = threads["timestamp"].diff()[threads["timestamp"].transform("size") >= 4]
    by_thread = gaps.groupby([returns["user"], returns["thread"]])
    assert (by_thread.std() / by_thread.mean()).median() < 0.25  # of random times it would be 1


def test_every_user_leaves_a_topic_alone_for_equally_long(tmp_path):
    one_topic_a_category = dataclasses.replace(DEEP, catalogue=Catalogue(items=211, categories=43))
    truth = write_log(one_topic_a_category, tmp_path / "log.csv", seed=3)
    events = read(tmp_path / "log.csv").assign(thread=truth.thread)
    returns = events[truth.mechanism == RETURN]
    gap = returns.groupby(["user", "thread"])["timestamp"].diff()
    by_category = gap.groupby(returns["category"])
    between = by_category.transform("mean").var()
    assert between / gap.var() > 0.5  # the category tells most of the time in between


@pytest.mark.parametrize(("preset", "history"), [("deep_500", 500), ("deep_5000", 5_000)])
def test_deep_presets_have_histories_of_one_length_before_the_first_target(preset, history):
    population = PRESETS[preset].population
    assert population.shortest == population.longest
    assert population.events == population.users * population.longest <= 10_000_000
    assert population.longest - history in (40, 100)  # targets a user


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """A log with stories; the events of each item of each user in the first four fifths of a time."""
    log = dataclasses.replace(
        SMALL,
        population=Population(users=59, events=59 * 700, shortest=700, longest=700),
        purchases=Purchases(consider_share=0.0, buy_share=0.0, repeat_share=0.0),
        stories=Stories(share=0.6),
    )
    path = tmp_path_factory.mktemp("told") / "log.csv"
    truth = write_log(log, path, seed=3)
    events = read(path).assign(thread=truth.thread, mechanism=truth.mechanism)
    events["position"] = events.groupby("user", sort=False).cumcount()
    return events


def test_stories_have_about_the_share_that_was_asked_for_and_one_item_each(told):
    assert (told["mechanism"] == STORY).mean() == pytest.approx(0.6, rel=0.25)
    stories = told[told["mechanism"] == STORY].groupby(["user", "thread"])
    assert stories["item"].nunique().max() == 1
    assert set(told["behavior"][told["mechanism"] == STORY]) == set(BEHAVIORS)


def test_the_kinds_of_its_events_tell_whether_an_item_comes_back(told):
    stories = told[told["mechanism"] == STORY]
    early = stories["position"] < 0.7 * 700
    kinds = stories[early].groupby(["user", "thread"])["behavior"].agg(set)
    later = stories[~early & (stories["behavior"] == "pv")]
    returned = kinds.index.isin(pd.MultiIndex.from_frame(later[["user", "thread"]]))
    share = {
        name: returned[kinds == wanted].mean()
        for name, wanted in (("look", {"pv"}), ("fav", {"pv", "fav"}), ("cart", {"pv", "cart"}))
    }
    assert share["look"] < 0.05
    assert share["fav"] > 0.2
    assert share["cart"] > share["look"]


def test_a_purchase_ends_a_story_but_of_a_consumable(told):
    stories = told[told["mechanism"] == STORY]
    bought = stories[stories["behavior"] == "buy"].groupby(["user", "thread"])["position"].max()
    last = stories.groupby(["user", "thread"])["position"].max()[bought.index]
    once = stories[stories["behavior"] == "buy"].groupby(["user", "thread"]).size() == 1
    carted = stories.groupby(["user", "thread"])["behavior"].agg(set)[bought.index]
    ended = (last == bought)[once & carted.map(lambda kinds: "cart" in kinds)]
    assert ended.all()
    assert (~once).sum() > 100  # consumables are bought again


def drift_of(log, path):
    """Mean distance between the shares of interests in the first and last third of histories."""
    truth = write_log(log, path, seed=1)
    distances = []
    for start, stop in zip(truth.offsets[:-1], truth.offsets[1:], strict=True):
        thread = truth.thread[start:stop][truth.mechanism[start:stop] == INTEREST]
        third = len(thread) // 3
        first, last = (
            np.bincount(part, minlength=9) / third for part in (thread[:third], thread[-third:])
        )
        distances.append(0.5 * np.abs(first - last).sum())
    return np.mean(distances)


def test_interests_drift_as_fast_as_they_are_told(tmp_path):
    base = SyntheticLog(
        Population(users=101, events=20_200, shortest=100, longest=301), Catalogue(997, 31)
    )
    still, slow, fast = (
        drift_of(dataclasses.replace(base, taste=Taste(drift=drift)), tmp_path / "log.csv")
        for drift in (0.0, 3.0, 9.0)
    )
    assert still + 0.1 < slow
    assert slow + 0.1 < fast


def test_interests_with_a_rising_slope_come_late(written):
    _, truth, events = written
    own = events[events["mechanism"] == INTEREST]
    rank = pd.Series(np.arange(len(truth.user_id)), index=truth.user_id)[own["user"]].to_numpy()
    length = np.diff(truth.offsets)[rank]
    slope = truth.interest_slope[rank, own["thread"]]
    assert np.corrcoef(own["position"] / length, slope)[0, 1] > 0.2


def test_interest_clicks_fall_in_the_planted_category(written):
    _, truth, events = written
    own = events[events["mechanism"] == INTEREST]
    rank = pd.Series(np.arange(len(truth.user_id)), index=truth.user_id)[own["user"]].to_numpy()
    planted = truth.interest_category[rank, own["thread"]]
    np.testing.assert_array_equal(planted, own["category"])
    assert (truth.interest_strength > 0).sum(axis=1).min() >= SMALL.taste.interests[0]


def test_items_of_a_topic_are_zipf(tmp_path):
    log = SyntheticLog(
        Population(users=211, events=40_009, longest=501),
        Catalogue(items=40 * 20, categories=20, item_zipf=1.0),
    )
    write_log(log, tmp_path / "log.csv", seed=2)
    clicks = read(tmp_path / "log.csv").groupby("category")["item"].value_counts()
    by_rank = clicks.groupby("category").apply(lambda counts: counts.to_numpy()[:16]).tolist()
    mean = np.mean([counts for counts in by_rank if len(counts) == 16], axis=0)
    slope = np.polyfit(np.log(np.arange(1, 17)), np.log(mean), 1)[0]
    assert -1.3 < slope < -0.7


def test_most_of_a_history_is_not_the_cause(written):
    _, truth, _ = written
    share = np.diff(truth.cause_offsets) / np.maximum(truth.target_position, 1)
    assert 0.05 < share.mean() < 0.35


def test_nothing_but_lone_clicks_is_without_causes_but_the_opening_of_threads(written):
    _, truth, events = written
    opened = ~events.duplicated(["user", "thread"])
    lone = events["mechanism"] == LONE
    assert (opened & lone).sum() == lone.sum()
    assert (events["thread"][lone] == -1 - events["position"][lone]).all()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"population": Population(users=3, events=29)}, "between 30 and"),
        ({"population": Population(users=1, events=20, shortest=30, longest=20)}, "shortest"),
        ({"window": (WINDOW_START, WINDOW_START + 1_200)}, "window"),
        ({"catalogue": Catalogue(items=41, categories=43)}, "one item a topic"),
        ({"catalogue": Catalogue(items=97, categories=7)}, "twice as many as interests"),
        ({"taste": Taste(interests=(4, 3))}, "fewest"),
        ({"taste": Taste(lone_share=1.5)}, "lone_share"),
        ({"purchases": Purchases(consider_share=0.95)}, "leave a tenth for clicks"),
        ({"stories": Stories(share=0.8)}, "a share of stories"),
        ({"stories": Stories(share=0.1, rounds=(5.0, 4.0))}, "most rounds"),
        ({"dormancy": Dormancy(share=0.8)}, "leaves a tenth for other clicks"),
        ({"dormancy": Dormancy(share=0.1, rounds=(5.0, 4.0))}, "most rounds"),
    ],
)
def test_impossible_parameters_are_refused_with_a_reason(changes, named):
    with pytest.raises(ValueError, match=named):
        dataclasses.replace(SMALL, **changes)


def test_a_negative_seed_is_refused(tmp_path):
    with pytest.raises(ValueError, match="non-negative"):
        write_log(SMALL, tmp_path / "log.csv", seed=-1)


def test_nothing_half_written_is_left_when_writing_fails(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing, "_write_csv", full)
    with pytest.raises(OSError, match="No space"):
        write_log(SMALL, tmp_path / "log.csv", seed=1)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_or_foreign_truth_file_is_named(tmp_path, written):
    with pytest.raises(FileNotFoundError, match=r"data_prep\.synthetic"):
        Truth.load(tmp_path / "log.csv")
    truth_path(tmp_path / "log.csv").write_bytes(b"no archive")
    with pytest.raises(ValueError, match="truth of a synthetic log"):
        Truth.load(tmp_path / "log.csv")


def test_unknown_users_and_positions_are_errors(written):
    _, truth, _ = written
    with pytest.raises(KeyError, match="no user 398"):
        truth.causes(398, 0)
    with pytest.raises(IndexError, match="none at position 5000"):
        truth.causes(1, 5_000)


def flags_of(*arguments):
    values = flags.FlagValues()
    command.define_flags(values)
    values(["synthetic", "--output=x", *arguments])
    return command.log_from_flags(values)


def test_flags_change_the_preset_and_keep_its_mean_length():
    assert flags_of() == PRESETS["quickstart"]
    log = flags_of("--users=70", "--min_length=7", "--max_length=90", "--categories=50")
    assert log.population == Population(70, 70 * 60, 7, 90, PRESETS["quickstart"].population.spread)
    assert log.catalogue.categories == 50
    assert flags_of("--users=10", "--mean_length=33").population.events == 330
    assert flags_of("--window_end=1600000000").window == (WINDOW_START, 1_600_000_000)


def test_a_mean_beside_a_total_is_refused():
    with pytest.raises(ValueError, match="leave one out"):
        flags_of("--events=500", "--mean_length=50")


def test_the_command_writes_a_log_or_says_in_one_line_why_not(tmp_path):
    command = [sys.executable, "-m", "data_prep.synthetic", f"--output={tmp_path}/log.csv"]
    good = subprocess.run(
        [*command, "--users=41", "--events=2003", "--seed=3"], capture_output=True
    )
    assert (good.returncode, len(read(tmp_path / "log.csv"))) == (0, 2_003)
    bad = subprocess.run([*command, "--users=41", "--events=3"], capture_output=True, text=True)
    assert bad.returncode != 0
    assert "between 410 and" in bad.stderr
    assert "Traceback" not in bad.stderr
