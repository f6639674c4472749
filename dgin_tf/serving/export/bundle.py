"""A trained model as a directory that TF Serving, or TensorFlow alone, can load and score with.

    export_dir/
      models.config  batching_parameters.txt  monitoring.config     for tensorflow_model_server
      3/                                                            one version
        saved_model.pb  variables/  fingerprint.pb
        assets.extra/
          model.json                  name, config, schema fingerprint, signatures, package versions
          schema.json  catalogue.npz  vocabulary/                   from raw ids to dense ones
          requests/<signature>.json                                 examples for the REST interface
          tf_serving_warmup_requests                                replayed before traffic

A version is written under a temporary name, loaded again, compared with the model, and renamed last:
a version that a server can see is complete and scores as the model does.
"""

import base64
import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
import os
import pathlib
import platform
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

import dgin_tf
from dgin_tf.integrity import facts_of, sealed
from dgin_tf.models.base import CTRModel
from dgin_tf.models.serving_spec import ServingSpec
from dgin_tf.ownership import check_claim, claim
from dgin_tf.records import CATALOGUE_FILE, Arrays, load_catalogue
from dgin_tf.schema import CANDIDATE_MASK, HISTORY_MASK, USER_ID, Schema, write_text
from dgin_tf.serving.export import signatures, warmup
from dgin_tf.serving.export.requests import RequestMaker
from dgin_tf.serving.export.versions import (
    ASSETS,
    FILES,
    FORMAT_VERSION,
    METADATA_FILE,
    version_numbers,
)
from dgin_tf.serving.export.vocabularies import VOCABULARY
from dgin_tf.state_types import FLOAT32, check_state_type, stored_bytes

REQUESTS = "requests"

# Assets above this size stay where the data is, and model.json says where: a server that keeps
# three versions should not keep three copies of a catalogue of 100 million items.
LARGEST_ASSETS = 1 << 30
# Largest difference between a served score and the model's; half precision rounds at every layer.
_TOLERANCE = 1e-6
_HALF_TOLERANCE = 2e-2

_EXAMPLE_SHAPE = (1, 5, 3)  # users, time, candidates: short enough to read
_WARMUP_SHAPE = (2, 200)  # users, candidates; its time is the model's longest history


@dataclasses.dataclass(frozen=True)
class Release:
    """Facts that are exported along with a model.

    Attributes:
      name: the model's name in a server.
      data_dir: the prepared data set that it was trained on.
      max_history: longest history that it was trained on, in events.
      config: its settings, as plain JSON values.
      state_type: number type that users' states are stored in, of `dgin_tf.state_types`.
    """

    name: str
    data_dir: str
    max_history: int
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    state_type: str = FLOAT32

    def __post_init__(self):
        check_state_type(self.state_type)
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", self.name):
            raise ValueError(
                "a served model's name is part of an address: letters, digits, '_', '.', '-'; "
                f"got {self.name!r}."
            )


def export_bundle(model: CTRModel, release: Release, export_dir: str | os.PathLike) -> pathlib.Path:
    """Exports a model as the next version in `export_dir`.

    Args:
      model: built, with the weights to serve.
      release: its name, data and settings.
      export_dir: the servable's base path, where versions of one model lie side by side.

    Returns:
      The directory of the new version.

    Raises:
      ValueError: the model was built for another schema than the data's.
      RuntimeError: the saved model does not score as the model does; nothing is exported.
    """
    schema = Schema.load(release.data_dir)
    if schema.fingerprint() != model.schema.fingerprint():
        raise ValueError(
            f"the model was built for schema {model.schema.fingerprint()}, but the data in "
            f"{release.data_dir!r} follow schema {schema.fingerprint()}; give the data that it was "
            "trained on."
        )
    base = pathlib.Path(export_dir)
    with _new_version(base) as (version, folder):
        _write_version(model, release, folder, version)
    write_configs(base, release.name)
    return base / str(version)


def check_base(base: str | os.PathLike) -> None:
    """Raises ValueError where a base path of versions cannot be made, or others' files have its names."""
    check_claim(base, _WRITER, _CONFIGS)


def write_configs(base: pathlib.Path, name: str) -> None:
    """Writes the three files that tensorflow_model_server is started with."""
    claim(base, _WRITER, _CONFIGS)
    for file_name, text in _CONFIGS.items():
        write_text(base / file_name, text.format(name=name, base=base.resolve()))


def usage(version: pathlib.Path) -> str:
    """Size of a user's state, and the commands that serve a version and request scores from it."""
    base, assets = version.parent.resolve(), version.resolve() / ASSETS
    metadata = json.loads((assets / METADATA_FILE).read_text(encoding="utf-8"))
    name, state = metadata["name"], metadata["state_bytes"]
    growth = f" and {state['per_event']:,} an event of the history" if state["per_event"] else ""
    return (
        f"state:  {state['fixed']:,} bytes a user{growth}\n"
        f"serve:  python -m experiments.serve --export_dir={base} --rest_port=8501\n"
        f"   or:  tensorflow_model_server --rest_api_port=8501 "
        f"--model_config_file={base}/models.config "
        f"--monitoring_config_file={base}/monitoring.config\n"
        f"score:  curl -d @{assets / REQUESTS / signatures.SERVING_DEFAULT}.json "
        f"http://127.0.0.1:8501/v1/models/{name}:predict"
    )


def _write_version(model: CTRModel, release: Release, folder: pathlib.Path, version: int) -> None:
    traced_functions = signatures.trace_signatures(model, release.max_history)
    module = tf.Module()
    # Only the weights that signatures read: auxiliary networks and optimizer slots are not exported.
    handles = {
        id(tensor) for function in traced_functions.values() for tensor in function.captured_inputs
    }
    module.weights = [v for v in model.variables if id(v.handle) in handles]
    # Settings without weights, such as a scale, change the meaning of a state too.
    digest = hashlib.blake2b(json.dumps(release.config, sort_keys=True).encode(), digest_size=8)
    for variable in module.weights:
        digest.update(variable.numpy().tobytes())
    tf.saved_model.save(module, os.fspath(folder), signatures=traced_functions)
    functions = tf.saved_model.load(os.fspath(folder)).signatures
    # Random requests, short ones as examples and long ones to warm up, prove the export first.
    maker = RequestMaker(model.schema, load_catalogue(release.data_dir))
    example = maker.batch(*_EXAMPLE_SHAPE)
    users, candidates = _WARMUP_SHAPE
    warm = maker.batch(users, release.max_history, candidates)
    for batch in (example, warm):
        _check_scores(model, functions, batch, maker.records(batch))
    assets = folder / ASSETS
    assets.mkdir()
    (assets / REQUESTS).mkdir()
    examples = _requests(functions, example, maker.records(example))
    for name, inputs in examples.items():
        write_text(assets / REQUESTS / f"{name}.json", rest_request(name, inputs))
    longest = _requests(functions, warm, maker.records(warm))
    requests = (*examples.items(), *longest.items())
    warmup.write_warmup(assets, [warmup.predict_request(release.name, *r) for r in requests])
    model.schema.save(assets)
    metadata = {
        "format_version": FORMAT_VERSION,
        "name": release.name,
        "version": version,
        "schema_fingerprint": model.schema.fingerprint(),
        "max_history": release.max_history,
        **_describe_spec(model.serving_spec),
        "config": dict(release.config),
        "signatures": {name: _describe(function) for name, function in functions.items()},
        "state_bytes": state_bytes(functions, release.state_type),
        "state_type": release.state_type,
        "weights_digest": digest.hexdigest(),
        "assets_dir": _copy_assets(release, model.schema, functions, assets),
        "packages": {
            "python": platform.python_version(),
            "dgin_tf": dgin_tf.__version__,
            **{name: importlib.metadata.version(name) for name in _PACKAGES},
        },
        # Examples of requests are for people, who may replace them.
        FILES: facts_of(folder, (n for n in _files(folder) if f"/{REQUESTS}/" not in n)),
    }
    write_text(assets / METADATA_FILE, sealed(metadata, sort_keys=True))


def _files(folder: pathlib.Path) -> list[str]:
    """Names of all files in a folder, at any depth."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return [path.relative_to(folder).as_posix() for path in paths]


def state_bytes(functions: Mapping[str, Any], state_type: str = FLOAT32) -> dict[str, int]:
    """Bytes of a user's state as stored arrays: `fixed`, and `per_event` of the history."""
    sizes = {"fixed": 0, "per_event": 0}
    for spec in signatures.signature_specs(functions[signatures.ENCODE_USER])[1].values():
        shape = spec.shape.as_list()[1:]
        part = "per_event" if None in shape else "fixed"
        known = [size or 1 for size in shape]  # of one event
        sizes[part] += stored_bytes(spec.dtype.as_numpy_dtype, known, state_type)
    return sizes


def rest_request(signature: str, inputs: Mapping[str, np.ndarray]) -> str:
    """JSON body of a request to TF Serving's REST interface, in its columnar form."""
    content = {"signature_name": signature, "inputs": {n: _plain(v) for n, v in inputs.items()}}
    return json.dumps(content) + "\n"


def _plain(value: np.ndarray) -> Any:
    if value.dtype == object:
        return [{"b64": base64.b64encode(item).decode()} for item in value]
    return value.tolist()


def _requests(
    functions: Mapping[str, Any], batch: Arrays, records: Sequence[bytes]
) -> dict[str, Arrays]:
    """Signature -> inputs for the same users and candidates."""
    arrays = {**batch, signatures.EXAMPLES: np.array(records, dtype=object)}
    encode = functions[signatures.ENCODE_USER]
    arrays |= {name: tensor.numpy() for name, tensor in _call(encode, arrays).items()}
    names = {
        name: list(signatures.signature_specs(function)[0]) for name, function in functions.items()
    }
    for name in {name for inputs in names.values() for name in inputs}:
        if name.startswith(signatures.total_feature("")):
            arrays[name] = np.ones(batch["hist_item_id"].shape, np.int32)
    return {
        signature: {name: arrays[name] for name in inputs} for signature, inputs in names.items()
    }


def _check_scores(
    model: CTRModel, functions: Mapping[str, Any], batch: Arrays, records: Sequence[bytes]
) -> None:
    """Raises RuntimeError unless every signature with probabilities agrees with the model."""
    masks = {
        mask: np.ones(batch[item].shape, bool)
        for mask, item in ((HISTORY_MASK, "hist_item_id"), (CANDIDATE_MASK, "cand_item_id"))
    }
    features = {name: tf.constant(value) for name, value in {**batch, **masks}.items()}
    probabilities = tf.sigmoid(model(features, training=False)[signatures.LOGITS]).numpy()
    half = tf.as_dtype(model.compute_dtype).size < 4
    for name, inputs in _requests(functions, batch, records).items():
        results = _call(functions[name], inputs)
        if signatures.PROBABILITIES not in results:
            continue  # a signature of a state, which score_candidates covers
        difference = float(np.abs(results[signatures.PROBABILITIES].numpy() - probabilities).max())
        if not difference <= (_HALF_TOLERANCE if half else _TOLERANCE):
            raise RuntimeError(
                f"the saved model's {name} differs from the model's scores by {difference:.2g}; "
                "expected the same scores. Nothing was exported."
            )


def _call(function, arrays: Mapping[str, np.ndarray]) -> dict[str, tf.Tensor]:
    specs = signatures.signature_specs(function)[0]
    return function(**{name: tf.constant(arrays[name], spec.dtype) for name, spec in specs.items()})


def _describe_spec(spec: ServingSpec) -> dict[str, Any]:
    """Parts of a history that a request needs, as plain JSON values."""
    description: dict[str, Any] = {"history_slice": None, "groups": None}
    if spec.history:
        description["history_slice"] = spec.history._asdict()
    if groups := spec.groups:
        sizes = {"key": groups.key, "groups": groups.groups, "events": groups.events}
        description["groups"] = {**sizes, "statistics": list(groups.statistic_names)}
    return description


def _describe(function) -> dict[str, dict[str, dict[str, Any]]]:
    """A signature's inputs and outputs as plain JSON values."""
    inputs, outputs = signatures.signature_specs(function)
    return {
        part: {
            name: {"dtype": spec.dtype.name, "shape": spec.shape.as_list()}
            for name, spec in specs.items()
        }
        for part, specs in (("inputs", inputs), ("outputs", outputs))
    }


def _copy_assets(release: Release, schema: Schema, functions, assets: pathlib.Path) -> str:
    """Copies the catalogue and the vocabularies of the signatures' inputs and of user ids.

    Returns:
      "" where they lie in the bundle, or the data directory where they are too large to copy.
    """
    inputs = {
        name for function in functions.values() for name in signatures.signature_specs(function)[0]
    }
    # Events, and requests for stored states or an index, name users by their raw ids.
    inputs.add(USER_ID)
    vocabularies = {f.vocabulary for name, f in schema.features().items() if name in inputs} - {""}
    data_dir = pathlib.Path(release.data_dir)
    paths = [data_dir / CATALOGUE_FILE]
    paths += [data_dir / VOCABULARY / f"{name}.txt" for name in sorted(vocabularies)]
    paths = [path for path in paths if path.is_file()]
    if sum(path.stat().st_size for path in paths) > LARGEST_ASSETS:
        return os.fspath(data_dir.resolve())
    # Copied, not linked: a bundle is moved to other machines.
    for path in paths:
        target = assets / path.relative_to(data_dir)
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, target)
    return ""


@contextlib.contextmanager
def _new_version(base: pathlib.Path) -> Iterator[tuple[int, pathlib.Path]]:
    """The next version's number and a directory to write it in, renamed on success."""
    is_new = not base.exists()
    check_base(base)
    base.mkdir(parents=True, exist_ok=True)
    version = max(version_numbers(base), default=0) + 1
    folder = base / f".{version}.{os.getpid()}.tmp"  # not a number, so that servers ignore it
    try:
        yield version, folder
        os.rename(folder, base / str(version))  # fails where another export took the number
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        if is_new:
            with contextlib.suppress(OSError):
                base.rmdir()
        raise


_WRITER = "settings of a server"
_PACKAGES = ("tensorflow", "tf-keras", "tensorflow-recommenders", "numpy")

_CONFIGS = {
    "models.config": """\
model_config_list {{
  config {{
    name: "{name}"
    base_path: "{base}"
    model_platform: "tensorflow"
    model_version_policy {{ latest {{ num_versions: 1 }} }}
  }}
}}
""",
    "batching_parameters.txt": """\
# For --enable_batching --batching_parameters_file=. The server merges requests only if their tensors
# have one shape: send histories and candidates padded with 0 to constant lengths. Answers have a mask beside
# the scores, false for padded candidates, whose probability is 0.
max_batch_size {{ value: 64 }}
batch_timeout_micros {{ value: 1000 }}
max_enqueued_batches {{ value: 1000 }}
num_batch_threads {{ value: 4 }}
# Not true: the server pads with a tensor's first element, which for a history is its oldest event.
pad_variable_length_inputs: false
""",
    "monitoring.config": """\
prometheus_config {{
  enable: true
  path: "/monitoring/prometheus/metrics"
}}
""",
}
