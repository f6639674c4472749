"""Every public option of every layer and model is exercised by the catalogues at least once."""

import inspect

import pytest

from dgin_tf.models import registry
from tests.conformance import catalogue, test_layers

COMMON = ("self", "schema", "config", "name", "kwargs")


def options(callable_or_class):
    """Name -> default of a constructor's arguments."""
    return {
        parameter.name: parameter.default
        for parameter in inspect.signature(callable_or_class).parameters.values()
        if parameter.name not in COMMON
    }


def is_exercised(name, default, entries):
    """Whether some entry sets an option to another value than its default."""
    return any(name in settings and settings[name] != default for settings in entries)


@pytest.mark.parametrize("kind", test_layers.CATALOGUE, ids=lambda kind: kind.__name__)
def test_every_option_of_a_layer_has_an_entry_that_sets_it(kind):
    entries = [settings for settings, _ in test_layers.entries_of(kind)]
    missing = [n for n, default in options(kind).items() if not is_exercised(n, default, entries)]
    assert missing == []


@pytest.mark.parametrize("name", catalogue.SMALL)
def test_every_setting_of_a_model_has_an_entry_that_sets_it(name):
    entries = [settings for model, settings in catalogue.CATALOGUE.values() if model == name]
    missing = [
        key
        for key, setting in registry.settings(name).items()
        if not is_exercised(key, setting.default, entries)
    ]
    assert missing == []
