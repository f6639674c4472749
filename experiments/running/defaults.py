"""Default settings of all experiments; a config file changes only what differs.

Every setting can be changed on the command line too: `--config.data.batch_rows=128`. A setting that
does not exist is an error, so that a misspelt one is not silently ignored.
"""

import dataclasses
import types
import typing
from typing import Any

import ml_collections
from ml_collections import config_dict

from dgin_tf.inputs.pipeline import BatchOptions
from dgin_tf.models import registry
from dgin_tf.models.base import ModelConfig
from dgin_tf.training.loop import LoopOptions


def get_config(model: str = "dien") -> ml_collections.ConfigDict:
    """Default settings of a model.

    Args:
      model: its name in `dgin_tf.models.registry.MODELS`.

    Returns:
      `model`, its settings (`registry.settings`); `network`, `data` and `loop`, the fields of
      `ModelConfig`, `BatchOptions` and `LoopOptions`; the optimizer and the numbers' precision.

    Raises:
      ValueError: there is no such model.
    """
    config = ml_collections.ConfigDict()
    config.model = _arguments(model)
    config.network = _fields(ModelConfig)
    config.data = dataclasses.asdict(BatchOptions())
    config.data.history_negatives = config_dict.placeholder(str)  # the model's losses decide
    config.evaluation_rows = 512  # rows of a batch of evaluation
    config.loop = dataclasses.asdict(LoopOptions())
    del config.loop.seed  # a flag of the commands
    config.optimizer = ml_collections.ConfigDict()
    config.optimizer.name = "rowwise_adam"  # or "adam", which sweeps whole tables every step
    config.optimizer.learning_rate = 1e-3
    config.optimizer.decay = 1.0  # factor of the learning rate after every epoch
    config.precision = "float32"  # or "mixed_bfloat16"
    return config.lock()


def _arguments(name: str) -> ml_collections.ConfigDict:
    """The model's settings with their defaults, None where the model decides."""
    settings = registry.settings(name)
    defaults = {key: setting.default for key, setting in settings.items()}
    hints = {key: setting.annotation for key, setting in settings.items()}
    return ml_collections.ConfigDict({"name": name, **_with_placeholders(defaults, hints)})


def _fields(cls: type) -> ml_collections.ConfigDict:
    """A dataclass's fields with their defaults, None where the model decides."""
    return ml_collections.ConfigDict(
        _with_placeholders(dataclasses.asdict(cls()), typing.get_type_hints(cls))
    )


def _with_placeholders(defaults: dict[str, Any], hints: dict[str, Any]) -> dict[str, Any]:
    """Makes every None one that can be set to a value of its annotation's type."""
    return {
        name: config_dict.placeholder(_type(hints[name])) if default is None else default
        for name, default in defaults.items()
    }


def _type(hint: Any) -> type:
    """The type that a command line gives for an annotation such as `Sequence[int] | None`."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        hint = next(choice for choice in typing.get_args(hint) if choice is not types.NoneType)
        return _type(hint)
    plain = typing.get_origin(hint) or hint
    if plain in (bool, int, float, str):
        return plain
    return tuple if isinstance(plain, type) and not issubclass(plain, str) else str
