"""Examples in docstrings are run, and every public layer has one."""

import doctest
import importlib
import pkgutil

import numpy as np
import pytest
import tensorflow as tf

import dgin_tf
from tests.conformance.catalogue import public_layers

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(dgin_tf.__path__, "dgin_tf.")
    if not module.name.split(".")[-1].startswith("_")
)


@pytest.mark.parametrize("kind", sorted(public_layers().values(), key=lambda kind: kind.__name__))
def test_every_public_layer_has_an_example(kind):
    assert ">>> " in (kind.__doc__ or ""), f"{kind.__module__}.{kind.__name__}"


@pytest.mark.parametrize("name", MODULES)
def test_examples_print_what_they_say(name):
    module = importlib.import_module(name)
    names = {"tf": tf, "np": np, **vars(module)}
    runner = doctest.DocTestRunner(
        optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS, verbose=False
    )
    text = []
    for example in doctest.DocTestFinder().find(module, name, globs=names):
        runner.run(example, out=text.append)
    assert not runner.failures, "".join(text)
