"""The configuration of a layer is its constructor's arguments."""

import json

import pytest
import tensorflow as tf

from dgin_tf.group_spec import StatisticsSpec
from dgin_tf.layers.configured import ConfiguredLayer, KernelLayer, as_config, as_layer
from dgin_tf.layers.search.alsh import ALSHSearch
from dgin_tf.layers.target_attention import TargetAttention
from dgin_tf.layers.tower import Tower
from dgin_tf.models.base import CTRModel
from dgin_tf.models.dgin import DGIN
from dgin_tf.models.dien import DIEN
from dgin_tf.models.mimn import MIMN
from tests.prepared import make_schema


class Scale(ConfiguredLayer):
    def __init__(self, factor=2.0, dims=(), **kwargs):
        super().__init__(**kwargs)
        self.factor = factor
        self.dims = list(dims)


class ShiftedScale(Scale):
    def __init__(self, shift, inner=None, **kwargs):
        super().__init__(**kwargs)
        self.shift = shift
        self.inner = as_layer(inner)


class Forgetful(Scale):
    def __init__(self, shift, **kwargs):
        super().__init__(**kwargs)


class Renaming(Forgetful):
    def get_config(self):
        return {**super().get_config(), "shift": 3.0}


class FixedScale(Scale):
    def __init__(self, shift=1.0):
        super().__init__(5.0, name="fixed")
        self.shift = shift


def test_arguments_of_the_class_and_of_its_base_are_in_the_configuration():
    layer = ShiftedScale(1.0, tf.keras.layers.Dense(3), factor=7.0, dims=(2, 3), name="scale")
    config = json.loads(json.dumps(layer.get_config()))
    assert (config["shift"], config["factor"], config["dims"]) == (1.0, 7.0, [2, 3])
    copy = ShiftedScale.from_config(config)
    assert copy.get_config() == layer.get_config()
    assert copy.inner.units == 3


def test_arguments_that_the_constructor_fixes_are_not_in_the_configuration():
    config = FixedScale(11.0).get_config()
    assert config["shift"] == 11.0
    assert not {"factor", "dims"} & set(config)


def test_an_argument_that_is_not_stored_is_an_error_unless_the_class_says_what_it_was():
    with pytest.raises(NotImplementedError, match="Forgetful must store its argument 'shift'"):
        Forgetful(1.0).get_config()
    assert Renaming(1.0).get_config()["shift"] == 3.0


def test_what_is_no_layer_is_refused_where_a_layer_is_expected():
    for construct in (
        lambda: ShiftedScale(1.0, inner=3),
        lambda: TargetAttention(unit="max"),
        lambda: ALSHSearch(3),
        lambda: ALSHSearch(Scale()),
        lambda: DGIN(make_schema(), group_module="max"),
        lambda: DGIN(make_schema(), group_module=Scale()),
        lambda: DIEN(make_schema(), auxiliary_loss=3),
        lambda: MIMN(make_schema(), memory=3),
        lambda: CTRModel(make_schema(), {"interest": "max"}),
        lambda: CTRModel(make_schema(), {"interest": Scale()}),
    ):
        with pytest.raises(TypeError, match="expected an instance of [A-Z].* or its .*; got "):
            construct()


def test_nested_objects_become_plain_values():
    initializer, spec = tf.keras.initializers.Constant(0.5), StatisticsSpec(distinct=("item_id",))
    config = as_config({"parts": [initializer, spec], "names": ("a", "b")})
    json.dumps(config)
    assert tf.keras.initializers.get(config["parts"][0]).get_config() == {"value": 0.5}
    assert StatisticsSpec(**config["parts"][1]) == spec


def test_layers_and_models_of_the_package_are_registered_and_those_of_others_are_not():
    name_of = tf.keras.utils.get_registered_name
    assert [name_of(Tower), name_of(DIEN)] == ["dgin_tf>Tower", "dgin_tf>DIEN"]
    assert name_of(Scale) == "Scale"


def test_kernels_of_one_initializer_differ():
    layer = KernelLayer(tf.keras.initializers.GlorotUniform())
    first, second = (layer.add_kernel(name, [2, 3]) for name in ("first", "second"))
    assert not tf.reduce_any(first == second)
