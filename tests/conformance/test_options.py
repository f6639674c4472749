"""Every public option of every layer and model is exercised by the catalogues at least once."""

import inspect
from itertools import chain

import pytest
import tensorflow as tf

from dgin_tf.layers import auxiliary_loss, product
from dgin_tf.layers.auxiliary_loss import AuxiliaryLoss
from dgin_tf.layers.configured import KernelLayer
from dgin_tf.layers.dimension_reduction import NO_LOSS, DimensionReduction
from dgin_tf.layers.interest_clusters import InterestClusters
from dgin_tf.layers.product import ProductLayer
from dgin_tf.layers.search import sdim
from dgin_tf.layers.search.sdim import HashedInterest
from dgin_tf.layers.sessions import bi_lstm
from dgin_tf.layers.sessions.bi_lstm import BiLSTM
from dgin_tf.layers.tower import Tower
from dgin_tf.models import registry
from dgin_tf.ops.clustering import CLUSTERINGS
from dgin_tf.ops.metric_learning import LOSSES, SAMPLINGS
from dgin_tf.ops.similarity import METRICS
from tests.conformance import catalogue, test_layers

# (Class or name of a model, option) -> why no entry can set it; at most five.
UNSET_OPTIONS: dict[tuple[type | str, str], str] = {}
# Options whose values have names -> all of these names.
NAMED_VALUES = {
    (AuxiliaryLoss, "reduce"): auxiliary_loss.REDUCTIONS,
    (BiLSTM, "merge"): (bi_lstm.CONCAT, bi_lstm.MEAN, bi_lstm.SUM),
    (DimensionReduction, "loss"): (*LOSSES, NO_LOSS),
    (DimensionReduction, "sampling"): tuple(SAMPLINGS),
    (HashedInterest, "norm"): sdim.NORMS,
    (InterestClusters, "clustering.algorithm"): tuple(CLUSTERINGS),
    (InterestClusters, "relevance.metric"): METRICS,
    (ProductLayer, "products"): (product.INNER, product.OUTER, product.BOTH),
    (Tower, "normalization"): ("batch", "affine_only", "none"),
}


def options(layer_class):
    """Option -> default of a layer's own constructor, without those that all Keras layers have."""
    classes = [layer_class] + [KernelLayer] * (layer_class in test_layers.KERNEL_LAYERS)
    return {
        parameter.name: parameter.default
        for parameter in chain(*(inspect.signature(kind).parameters.values() for kind in classes))
        if parameter.name not in ("name", "dtype")
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    }


def missing_options(owner, defaults, entries):
    """Options that no entry sets to another value than the default, those with a reason left out."""
    return [
        name
        for name, default in defaults.items()
        if (owner, name) not in UNSET_OPTIONS
        and not any(name in settings and settings[name] != default for settings in entries)
    ]


@pytest.mark.parametrize("kind", test_layers.CATALOGUE, ids=lambda kind: kind.__name__)
def test_every_option_of_a_layer_has_an_entry_that_sets_it(kind):
    entries = [settings for settings, _ in test_layers.entries_of(kind)]
    assert missing_options(kind, options(kind), entries) == []


def test_every_entry_of_options_belongs_to_a_layer_of_the_catalogue():
    assert {kind for kind, *_ in test_layers.OPTIONS} <= set(test_layers.CATALOGUE)


@pytest.mark.parametrize("name", catalogue.SMALL)
def test_every_setting_of_a_model_has_an_entry_that_sets_it(name):
    entries = [settings for model, settings in catalogue.CATALOGUE.values() if model == name]
    defaults = {key: setting.default for key, setting in registry.settings(name).items()}
    assert missing_options(name, defaults, entries) == []


@pytest.mark.parametrize(
    ("kind", "option"), NAMED_VALUES, ids=lambda part: getattr(part, "__name__", part)
)
def test_every_value_with_a_name_has_an_entry(kind, option):
    name, *attribute = option.split(".")
    values = set()
    for settings, _ in test_layers.entries_of(kind):
        layer = kind(**settings)
        part = getattr(layer, name) if attribute else None
        values.add(getattr(part, *attribute) if attribute else layer.get_config()[name])
    assert values == set(NAMED_VALUES[kind, option])


def test_a_new_option_without_an_entry_is_reported():
    class WithNewOption(tf.keras.layers.Dense):
        def __init__(self, units, sharpness=1.0, shape="round", **kwargs):
            super().__init__(units, **kwargs)

    entries = [{"units": 3, "sharpness": 1.0}, {"units": 3, "shape": "square"}]
    assert missing_options(WithNewOption, options(WithNewOption), entries) == ["sharpness"]


def test_options_without_an_entry_are_few_and_exist():
    assert len(UNSET_OPTIONS) <= 5
    for owner, name in UNSET_OPTIONS:
        assert name in (registry.settings(owner) if isinstance(owner, str) else options(owner))
