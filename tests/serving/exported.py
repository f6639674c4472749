"""Exports of small random models, and one fresh process that scores with all of them."""

import dataclasses
import pathlib
import subprocess
import sys

import numpy as np
import tensorflow as tf

from dgin_tf.inputs.pipeline import BatchOptions, PreparedData
from dgin_tf.models.base import ModelConfig
from dgin_tf.models.registry import make_model
from dgin_tf.serving.export.bundle import Release, export_bundle
from tests.prepared import write_prepared

MAX_HISTORY = 23
USERS, CUTS, CANDIDATES = 29, 2, 3


@dataclasses.dataclass(frozen=True)
class Exported:
    """A model, its bundle, and a batch that both can score: all rows of the test split."""

    model: tf.keras.Model
    data_dir: pathlib.Path
    version: pathlib.Path
    batch: dict[str, np.ndarray]

    @property
    def expected(self) -> np.ndarray:
        return self.model.predict_on_batch(self.batch)

    @property
    def records(self) -> pathlib.Path:
        (shard,) = PreparedData(self.data_dir).shards("test")
        return self.data_dir / shard.path


def make_data(data_dir: pathlib.Path, behavior_types: tuple[str, ...] = ()) -> PreparedData:
    sizes = {"users": USERS, "cuts": CUTS, "negatives": CANDIDATES - 1, "buckets": (47,)}
    write_prepared(data_dir, **sizes, behavior_types=behavior_types)
    (data_dir / "vocabulary").mkdir()
    for name, raw in (("item_id", "item {}"), ("category_id", "category {}"), ("user_id", "u{}")):
        lines = [raw.format(n) for n in range(2, 101)]
        (data_dir / "vocabulary" / f"{name}.txt").write_text("\n".join(lines) + "\n")
    if behavior_types:
        text = "\n".join(behavior_types) + "\n"
        (data_dir / "vocabulary" / "behavior_type.txt").write_text(text)
    return PreparedData(data_dir)


def export(
    name: str,
    data: PreparedData,
    export_dir: pathlib.Path,
    user_fields=(),
    embedding_dim=7,
    behavior_types=(),
    **settings,
) -> Exported:
    """Exports a model with random weights that are large enough for scores to differ."""
    rng = np.random.default_rng(3)
    config = ModelConfig(embedding_dim, user_fields, (13, 5), behavior_types=behavior_types)
    model = make_model(name, data.schema, config, **settings)
    (batch,) = data.evaluation("test", BatchOptions(USERS * CUTS, MAX_HISTORY)).take(1)
    model(batch)
    for variable in model.variables:
        value = rng.normal(0.0, 0.4, variable.shape)
        variable.assign(1.0 + np.abs(value) if "variance" in variable.name else value)
    release = Release(name, str(data.data_dir), MAX_HISTORY, {"model": name})
    version = export_bundle(model, release, export_dir)
    features = {name: value.numpy() for name, value in batch.items()}
    return Exported(model, pathlib.Path(data.data_dir), version, features)


FRESH = """
import sys
sys.modules.update(dict.fromkeys(("dgin_tf", "tf_keras", "keras", "tensorflow_recommenders")))
import numpy as np, tensorflow as tf
for version, given, records, target in zip(*(sys.argv[n::4] for n in (1, 2, 3, 4))):
    signatures = tf.saved_model.load(version).signatures
    given = dict(np.load(given))
    def run(name, given):
        specs = signatures[name].structured_input_signature[1]
        outputs = signatures[name](**{k: tf.constant(given[k], s.dtype) for k, s in specs.items()})
        return {k: v.numpy() for k, v in outputs.items()}
    whole = run("serving_default", given)["probabilities"]
    state = run("encode_user", given)
    parts = run("score_candidates", {**given, **state})["probabilities"]
    given["examples"] = next(iter(tf.data.TFRecordDataset(records).batch(1000)))
    examples = run("predict_examples", given)["probabilities"]
    extra = {}
    if "update_user" in signatures:
        early = {k: v[:, :9] if k.startswith("hist_") else v for k, v in given.items()}
        late = {k: v[:, 9:] for k, v in given.items() if k.startswith("hist_")}
        updated = run("update_user", {**late, **run("encode_user", early)})
        extra["updated"] = run("score_candidates", {**given, **updated})["probabilities"]
    np.savez(target, whole=whole, parts=parts, examples=examples, **extra)
"""


def score_in_a_fresh_process(
    exports: list[Exported], folder: pathlib.Path
) -> list[dict[str, np.ndarray]]:
    """Runs every signature where neither our code nor any Keras can be imported."""
    arguments = []
    for number, bundle_export in enumerate(exports):
        inputs, target = folder / f"given{number}.npz", folder / f"scores{number}.npz"
        np.savez(inputs, **bundle_export.batch)
        arguments += [
            str(bundle_export.version),
            str(inputs),
            str(bundle_export.records),
            str(target),
        ]
    subprocess.run([sys.executable, "-I", "-c", FRESH, *arguments], check=True)
    return [dict(np.load(path)) for path in arguments[3::4]]
