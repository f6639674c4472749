"""Name -> class of every model, and models from the flat settings of configs and command lines."""

import difflib
import importlib
import inspect
import pkgutil
import typing
from typing import Any, NamedTuple

from dgin_tf.models.base import MODELS, CTRModel, ModelConfig
from dgin_tf.schema import Schema

# A class is in `MODELS` as soon as its module is imported.
for _package in ("dgin_tf.models", "dgin_tf.models.baselines", "dgin_tf.released"):
    for _module in pkgutil.iter_modules(importlib.import_module(_package).__path__):
        importlib.import_module(f"{_package}.{_module.name}")


class Setting(NamedTuple):
    """A setting of a model, as a config file knows it.

    Attributes:
      default: None where the model decides.
      annotation: type of its values.
    """

    default: Any
    annotation: Any


def find(name: str) -> type[CTRModel]:
    """The class of a model; raises ValueError with all names where there is none such."""
    if name not in MODELS:
        alike = difflib.get_close_matches(name, MODELS)
        hint = f" Did you mean {' or '.join(alike)}?" if alike else ""
        raise ValueError(f"expected a model among {', '.join(sorted(MODELS))}; got {name!r}.{hint}")
    return MODELS[name]


def settings(name: str) -> dict[str, Setting]:
    """The settings of a model by name: its `Settings`, or its constructor's arguments.

    Example:

      >>> settings("rum")["slots"].default
      4
    """
    model = find(name)
    source = model.Settings or model
    annotations = typing.get_type_hints(model.Settings or model.__init__)
    return {
        parameter.name: Setting(parameter.default, annotations[parameter.name])
        for parameter in inspect.signature(source).parameters.values()
        if parameter.name not in ("schema", "config", "name")
    }


def make_model(
    name: str, schema: Schema, config: ModelConfig | None = None, **values: Any
) -> CTRModel:
    """Builds a model from flat settings.

    Args:
      name: of the model in `MODELS`.
      schema: the data.
      config: embedding and head.
      **values: settings that differ from the defaults, see `settings`.

    Raises:
      ValueError: there is no such model, or it has no such setting.
    """
    model, known_settings = find(name), settings(name)
    if unknown_settings := sorted(set(values) - set(known_settings)):
        raise ValueError(
            f"{name} has the settings {', '.join(known_settings)}; got {', '.join(unknown_settings)}."
        )
    if model.Settings is None:
        return model(schema, config=config, **values)
    return model.from_settings(schema, config, model.Settings(**values))
