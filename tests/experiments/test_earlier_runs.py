"""Training that starts from another run's weights, on data that keep its ids."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf

from data_prep.id_policy import VocabularyOptions
from dgin_tf.inputs.pipeline import BatchOptions, PreparedData
from dgin_tf.training.evaluation import Evaluator
from experiments.running import defaults, earlier_runs, predictions, runs
from tests.data_prep import logs
from tests.data_prep.test_vocabulary_from import day

SEED = 3


def prepare(folder, number, earlier=None):
    folder.mkdir()
    path = logs.write_log(folder, day(number))
    request = dataclasses.replace(
        logs.preparation(path, targets_per_user=2),
        vocabulary=VocabularyOptions(str(earlier) if earlier else ""),
    )
    logs.run(request, folder / "data")
    return folder / "data"


def small(model="din", epochs=1):
    config = defaults.get_config(model)
    config.network.embedding_dim = 3
    config.network.tower_units = (5,)
    config.network.user_fields = ("user_id",)
    config.data.batch_rows = 16
    config.loop.epochs = epochs
    return config


def with_start(config, run_dir, optimizer=earlier_runs.FRESH):
    with config.unlocked():
        config.init_from = earlier_runs.init_settings(str(run_dir), optimizer)
    return config


@pytest.fixture(scope="module")
def days(tmp_path_factory):
    """Two days' data, the second with the ids of the first, and a run on the first."""
    folder = tmp_path_factory.mktemp("days")
    first = prepare(folder / "0", 0)
    second = prepare(folder / "1", 1, first)
    runs.train_seeds(small(), str(first), folder / "run", [SEED])
    return first, second, folder / "run"


def started(config, data_dir):
    """The model as training would begin, and the variables of its optimizer."""
    data = PreparedData(data_dir)
    plain = runs.plain_config(config)
    earlier = runs.find_run(plain["init_from"]["run"])
    plain, start = earlier_runs.resolve(plain, data, earlier, steps=10)
    model = earlier_runs.make_model(plain, data.schema)
    model.build()
    model.compile(earlier_runs.make_optimizer(plain, model, 10))
    model.optimizer.build(model.trainable_variables)
    before = {name: table.numpy() for name, table in model.embedding.tables.items()}
    start(model)
    return model, before


def test_rows_of_kept_ids_are_the_earlier_runs_and_new_rows_are_as_initialized(days):
    first, second, run_dir = days
    earlier, _ = runs.load_model(run_dir, PreparedData(first))
    model, before = started(with_start(small(), run_dir), second)
    for name, table in earlier.embedding.tables.items():
        rows = table.shape[0]
        np.testing.assert_array_equal(model.embedding.tables[name][:rows], table)
        np.testing.assert_array_equal(model.embedding.tables[name][rows:], before[name][rows:])
    assert model.embedding.tables["item_id"].shape[0] > earlier.embedding.tables["item_id"].shape[0]
    for ours, theirs in zip(model.tower.variables, earlier.tower.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("optimizer", [earlier_runs.FRESH, earlier_runs.KEPT])
def test_the_state_of_the_optimizer_is_kept_or_fresh(days, optimizer):
    first, second, run_dir = days
    model, _ = started(with_start(small(), run_dir, optimizer), second)
    steps = [int(part.iterations) for part in model.optimizer.optimizers]
    moments = [v for v in model.optimizer.weights if "/m/" in v.name or "/v/" in v.name]
    size = sum(float(tf.reduce_sum(tf.abs(v))) for v in moments)
    if optimizer == earlier_runs.FRESH:
        assert steps == [0, 0]
        assert size == 0.0
    else:
        count = PreparedData(first).steps("train", BatchOptions(batch_rows=16))
        assert steps == [count, count]
        assert size > 0.0


def test_a_run_that_starts_from_another_trains_and_says_from_what(days, tmp_path):
    _, second, run_dir = days
    config = with_start(small(), run_dir)
    result = runs.train_seeds(config, str(second), tmp_path / "run", [SEED])
    assert np.isfinite(result["test"]["auc"])
    written = json.loads((tmp_path / "run" / f"seed-{SEED}" / "config.json").read_text())
    assert set(written["init_from"]) == {"weights", "schema", "optimizer"}
    # The same command finds it finished.
    again = runs.train_seeds(config, str(second), tmp_path / "run", [SEED])
    assert again["test"] == result["test"]


def test_a_start_with_the_same_data_scores_as_the_run_that_it_is_from(days):
    first, _, run_dir = days
    data = PreparedData(first)
    earlier, _ = runs.load_model(run_dir, data)
    model, _ = started(with_start(small(), run_dir), first)
    batch = next(iter(data.evaluation("test", BatchOptions(16, 30))))
    np.testing.assert_allclose(model(batch)["logits"], earlier(batch)["logits"], rtol=1e-5)


def test_weights_of_another_model_or_of_other_sizes_are_refused(days):
    _, second, run_dir = days
    with pytest.raises(ValueError, match="model 'din', now 'dien'; give a run of the same kind"):
        started(with_start(small("dien"), run_dir), second)
    wide = small()
    wide.network.embedding_dim = 4
    with pytest.raises(ValueError, match="of other sizes: .* has shape .* here and .* there"):
        started(with_start(wide, run_dir), second)
    adam = small()
    adam.optimizer.name = "adam"
    with pytest.raises(ValueError, match="optimizer 'rowwise_adam', now 'adam'; .*=fresh"):
        started(with_start(adam, run_dir, earlier_runs.KEPT), second)


def test_data_that_do_not_keep_the_ids_are_refused(days, tmp_path):
    other = prepare(tmp_path / "other", 1)
    with pytest.raises(ValueError, match="prepare them with --vocabulary_from=FOLDER"):
        started(with_start(small(), days[2]), other)
    with pytest.raises(ValueError, match="prepare them with --vocabulary_from=FOLDER"):
        runs.open_data(other, days[2])


def test_a_days_model_is_evaluated_on_the_next_day_with_later_ids_as_unknown(days):
    first, second, run_dir = days
    data = runs.open_data(second, run_dir)
    assert data.schema == PreparedData(first).schema
    model, config = runs.load_model(run_dir, data)
    options = BatchOptions(config["evaluation_rows"], config["data"]["max_history"])
    sizes = data.schema.vocabulary_sizes
    for batch in data.evaluation("test", options):
        assert batch["hist_item_id"].numpy().max() < sizes["item_id"]
    columns = predictions.columns(data)
    scores = Evaluator(model, list(columns.values())).score(data.evaluation("test", options))
    table = predictions.table(scores, columns, data)
    # Whom the model does not know has a row of their own all the same.
    whole = PreparedData(second)
    assert table["user"].nunique() == sum(shard.users for shard in whole.shards("test"))
    assert table["user"].notna().all()
    assert len(np.unique(scores["groups"])) == table["user"].nunique()


def test_the_data_of_the_run_itself_are_read_as_ever(days):
    first, _, run_dir = days
    data = runs.open_data(first, run_dir)
    assert not data.keeps_later_ids
    assert "recorded_user_id" not in data.evaluation("test", BatchOptions()).element_spec
