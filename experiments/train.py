"""Trains a model on a prepared data set; started again, it resumes.

    python -m experiments.train --config=dien/movielens:din --data_dir=D --model_dir=M

`--config.network.embedding_dim=8` changes a setting, `--seeds=5` trains five seeds, `--parallel_seeds=2` two
of them at a time, `--strategy=mirrored` uses all GPUs. A config is a file, a name such as dien/movielens, or
a module; `defaults:din` is for data of one's own. `M/result.json` holds the metrics,
`M/seed-1/tensorboard` curves, histograms, the graph and the items' embeddings.

A finished run is trained longer by larger limits, `--config.loop.epochs=60` or `--config.loop.patience=5`, and
ends as one that had them from the start.

`--init_from=RUN` starts from the best weights of another run, such as yesterday's: new ids get new rows, all else
goes on (`--init_optimizer=kept` with the optimizer's state too).

`--sweep="network.embedding_dim=8,18;optimizer.learning_rate=1e-3,2e-3"` trains every point of a grid, in folders of
M, and writes `M/sweep.md` and `M/sweep.json`. The best mean of `loop.monitor` on validation chooses;
test metrics are shown of the chosen point alone. Finished points are not trained again.
"""

import pathlib
import sys

from absl import flags, logging

from dgin_tf.commands import command_line
from dgin_tf.training import distribution
from experiments.running import configs, earlier_runs, runs, sweeps

_CONFIG = configs.define_config()
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Prepared data set.", required=True)
_MODEL_DIR = flags.DEFINE_string("model_dir", None, "Where the runs go.", required=True)
_SEED = flags.DEFINE_integer("seed", 1, "The first seed.")
_SEEDS = flags.DEFINE_integer("seeds", 1, "Number of seeds to train.", lower_bound=1)
_PARALLEL = flags.DEFINE_integer("parallel_seeds", 1, "Seeds at a time.", lower_bound=1)
_STRATEGY = flags.DEFINE_enum(
    "strategy", "default", distribution.STRATEGIES, "How to distribute one run."
)
_CPUS = flags.DEFINE_integer(
    "logical_cpus", 1, "Split the CPU into so many devices, to try a strategy.", lower_bound=1
)
_SWEEP = flags.DEFINE_string(
    "sweep", None, "Grid of settings, setting=value,value;setting=value,value: trains every point."
)
_INIT_FROM = flags.DEFINE_string(
    "init_from",
    None,
    "A run, or a folder of seeds, whose weights training starts from; --data_dir has to keep its ids, see "
    "data_prep.prepare --vocabulary_from.",
)
_INIT_OPTIMIZER = flags.DEFINE_enum(
    "init_optimizer",
    earlier_runs.FRESH,
    [earlier_runs.FRESH, earlier_runs.KEPT],
    "State of the optimizer after --init_from.",
)
flags.mark_flag_as_required("config")
REPLACED_SETTINGS = {
    "variant": "The authors' code is a model of its own: write --config=FILE:<model>_released, such as "
    "--config=experiments/dien/movielens.py:dien_released.",
    "multiply": "ENCODE multiplies cosines by beta now: --config.model.metric=printed divides, as Eq. (9) is "
    "printed.",
    "backbone": "Embedding and head are config.network now.",
}


def main(_: object) -> None:
    """Trains as the flags say."""
    logging.set_verbosity(logging.WARNING)  # TensorFlow reports every checkpoint's sharding
    # With TF_CONFIG every machine runs this command; servers never return from `serve`.
    if _STRATEGY.value == "parameter_server" and distribution.serves_others():
        distribution.serve()
    seeds = range(_SEED.value, _SEED.value + _SEEDS.value)
    model_dir = pathlib.Path(_MODEL_DIR.value)
    if _INIT_FROM.value:
        if pathlib.Path(_INIT_FROM.value).resolve() == model_dir.resolve():
            raise ValueError(
                f"expected --init_from to be another run than --model_dir; got {model_dir} for both."
            )
        runs.find_run(_INIT_FROM.value)
        with _CONFIG.value.unlocked():
            _CONFIG.value[earlier_runs.INIT_FROM] = earlier_runs.init_settings(
                _INIT_FROM.value, _INIT_OPTIMIZER.value
            )
    if _SWEEP.value is not None:
        summary = _sweep(_SWEEP.value, model_dir, seeds)
    elif _STRATEGY.value == "default":
        summary = _summary(
            runs.train_seeds(_CONFIG.value, _DATA_DIR.value, model_dir, seeds, _PARALLEL.value),
            model_dir,
        )
    else:
        summary = _summary(_distributed(model_dir, seeds), model_dir)
    sys.stdout.write(f"{summary}curves: tensorboard --logdir={model_dir}\n")


def _sweep(text, model_dir, seeds):
    if _STRATEGY.value != "default":
        raise ValueError(
            f"a sweep trains on one device; got --strategy={_STRATEGY.value}. Leave one of them out."
        )
    points = sweeps.grid(text)
    with runs.SeedPool(_PARALLEL.value) as pool:
        content = sweeps.run_sweep(
            pool, _CONFIG.value, points, _DATA_DIR.value, model_dir, list(seeds)
        )
    best = model_dir / content["rows"][content["chosen"]]["folder"]
    return f"{sweeps.markdown(content)}the chosen run is in {best}; all of it in {model_dir}\n"


def _summary(result, model_dir):
    """Test metrics as text, with their deviation over seeds where there are several."""
    test, deviation = result["test"], result["deviation"]["test"]
    lines = []
    for name in ("auc", "gauc", "log_loss", "calibration"):
        if name in test:
            spread = f" +- {deviation[name]:.4f}" if len(result["seeds"]) > 1 else ""
            lines.append(f"test {name}: {test[name]:.4f}{spread}")
    lines.append(f"{test['examples']:.0f} examples; everything in {model_dir}")
    return "\n".join(lines) + "\n"


def _distributed(model_dir, seeds):
    if _PARALLEL.value > 1:
        raise ValueError("expected --parallel_seeds=1 with a strategy that uses every device.")
    if _CPUS.value > 1:  # before TensorFlow creates its devices
        distribution.split_cpu(_CPUS.value)
    strategy = distribution.make_strategy(_STRATEGY.value)
    config = runs.plain_config(_CONFIG.value)
    is_chief = distribution.is_chief(strategy)
    if is_chief:  # workers share the folder
        runs.claim_result(model_dir)
    results = {
        seed: runs.train_seed(config, _DATA_DIR.value, model_dir / f"seed-{seed}", seed, strategy)
        for seed in seeds
    }
    common_result = runs.combine(config, results)
    if is_chief:
        runs.write_json(model_dir / runs.RESULT_FILE, common_result)
    return common_result


if __name__ == "__main__":
    command_line.run(main, REPLACED_SETTINGS)
