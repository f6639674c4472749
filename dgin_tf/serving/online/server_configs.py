"""TF Serving's own config files, as far as this service reads them: versions, labels, the path of metrics."""

import os
import pathlib
import re

from google.protobuf import text_format

from dgin_tf.serving.online.served_model import Rollout
from dgin_tf.stores.state_store import optional_package

METRICS_PATH = "/monitoring/prometheus/metrics"
MODELS_CONFIG, MONITORING_CONFIG = "models.config", "monitoring.config"


def read_rollout(path: str | os.PathLike, name: str) -> Rollout:
    """Versions and labels of a model in a model config file.

    Args:
      path: a text file of TF Serving's `ModelServerConfig`.
      name: of the model; the file's paths of models are not read.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is no such text, or does not name the model.
    """
    configs = optional_package("tensorflow_serving.config.model_server_config_pb2", "model config")
    text = pathlib.Path(path).read_text(encoding="utf-8")
    try:
        content = text_format.Parse(text, configs.ModelServerConfig())
    except text_format.ParseError as error:
        raise ValueError(
            f"expected a text of TF Serving's ModelServerConfig in {path}: {error}."
        ) from error
    for config in content.model_config_list.config:
        if config.name == name:
            break
    else:
        raise ValueError(f"expected a model {name!r} in {path}; it has none of this name.")
    policy = config.model_version_policy
    kind = policy.WhichOneof("policy_choice")
    labels = dict(config.version_labels)
    if kind == "all":
        return Rollout(latest=0, labels=labels)
    if kind == "specific":
        return Rollout(specific=tuple(policy.specific.versions), labels=labels)
    return Rollout(latest=max(policy.latest.num_versions, 1), labels=labels)


def read_metrics_path(path: str | os.PathLike) -> str:
    """Path of the metrics in a monitoring config file; TF Serving's own where there is no file."""
    try:
        text = pathlib.Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        return METRICS_PATH
    match = re.search(r'^\s*path:\s*"(/[\w/.-]+)"', text, re.MULTILINE)
    return match[1] if match else METRICS_PATH
