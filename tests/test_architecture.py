"""The house rules that a reader relies on: imports point one way, and nothing reaches out."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
BASE = (
    "dgin_tf.schema",
    "dgin_tf.ownership",
    "dgin_tf.integrity",
    "dgin_tf.records",
    "dgin_tf.whole_histories",
    "dgin_tf.numeric_features",
    "dgin_tf.hashed_ids",
    "dgin_tf.group_spec",
    "dgin_tf.state_types",
    "dgin_tf.commands",
)
OPS = (*BASE, "dgin_tf.ops")
# Grouping is a transform of batches that layers apply too where nobody did before them.
GROUPING = "dgin_tf.inputs.group_features"
LAYERS = (
    *OPS,
    GROUPING,
    "dgin_tf.layers",
    "dgin_tf.losses",
    "dgin_tf.metrics",
    "dgin_tf.optimizers",
)
# Models say by which transforms their batches are read.
MODELS = (*LAYERS, "dgin_tf.models", "dgin_tf.inputs.group_features")
ALLOWED = {
    "dgin_tf/schema.py": (),
    "dgin_tf/ownership.py": ("dgin_tf.schema", "dgin_tf.integrity"),
    "dgin_tf/integrity.py": (),
    "dgin_tf/records.py": ("dgin_tf.schema", "dgin_tf.integrity"),
    "dgin_tf/whole_histories.py": ("dgin_tf.schema", "dgin_tf.records"),
    "dgin_tf/numeric_features.py": ("dgin_tf.schema",),
    "dgin_tf/hashed_ids.py": ("dgin_tf.schema",),
    "dgin_tf/group_spec.py": (),
    "dgin_tf/state_types.py": (),
    "dgin_tf/commands": ("dgin_tf.commands.start_up",),
    "dgin_tf/ops": OPS,
    "dgin_tf/layers": (*OPS, "dgin_tf.layers"),
    "dgin_tf/losses.py": OPS,
    "dgin_tf/metrics.py": OPS,
    "dgin_tf/optimizers.py": OPS,
    "dgin_tf/models": MODELS,
    "dgin_tf/released": (*MODELS, "dgin_tf.released"),
    "dgin_tf/inputs": (*OPS, "dgin_tf.inputs"),
    "dgin_tf/stores": (*BASE, "dgin_tf.stores"),
    "dgin_tf/training": (*LAYERS, "dgin_tf.inputs.group_features", "dgin_tf.training"),
    # Serving parses records with the very functions that training reads them with: a second parser
    # would be where the two drift apart.
    "dgin_tf/serving": (*MODELS, "dgin_tf.inputs", "dgin_tf.stores", "dgin_tf.serving"),
    # Within serving: exports know nothing of states in a store, the center nothing of requests.
    "dgin_tf/serving/export": (*MODELS, "dgin_tf.inputs", "dgin_tf.serving.export"),
    "dgin_tf/serving/center": (
        *BASE,
        "dgin_tf.inputs",
        "dgin_tf.stores",
        "dgin_tf.serving.export",
        "dgin_tf.serving.center",
    ),
    "dgin_tf/serving/online": (
        *BASE,
        "dgin_tf.inputs",
        "dgin_tf.stores",
        "dgin_tf.serving.export",
        "dgin_tf.serving.center",
        "dgin_tf.serving.online",
    ),
    "dgin_tf/inspection": (*MODELS, "dgin_tf.inspection"),
    "data_prep": (*BASE, "data_prep"),
}
SOURCES = sorted(
    path
    for folder in ("dgin_tf", "data_prep", "experiments")
    for path in (ROOT / folder).rglob("*.py")
)


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def allowed_for(path):
    name = path.relative_to(ROOT).as_posix()
    return [
        allowed
        for place, allowed in ALLOWED.items()
        if name == place or name.startswith(f"{place}/")
    ]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_point_one_way(path):
    own = [
        n
        for n in imports_of(path)
        if n.split(".")[0] in ("dgin_tf", "data_prep", "experiments", "tests")
        and n != "dgin_tf"  # its version; importing any part imports it as well
    ]
    if path.relative_to(ROOT).parts[0] == "experiments":
        assert not [name for name in own if name.startswith("tests")]
        return
    for allowed in allowed_for(path):
        wrong = [n for n in own if not any(n == a or n.startswith(f"{a}.") for a in allowed)]
        assert wrong == []


def test_every_module_of_the_package_has_a_rule():
    unruled = [
        p for p in SOURCES if p.parts[-2:] != ("dgin_tf", "__init__.py") and not allowed_for(p)
    ]
    assert [p for p in unruled if p.relative_to(ROOT).parts[0] != "experiments"] == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_evaluates_pickles_or_reaches_the_network(path):
    banned = ("pickle", "urllib", "requests", "socket", "shelve", "marshal")
    calls = {
        n.func.id
        for n in ast.walk(ast.parse(path.read_text()))
        if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
    }
    assert not calls & {"eval", "exec"}
    assert not [name for name in imports_of(path) if name.split(".")[0] in banned]


@pytest.mark.parametrize(
    "path",
    [
        p
        for p in SOURCES
        if p.relative_to(ROOT).parts[0] == "data_prep"
        or p.relative_to(ROOT).parts[:2] in (("dgin_tf", "stores"), ("dgin_tf", "commands"))
        or p.name
        in (
            "schema.py",
            "ownership.py",
            "integrity.py",
            "records.py",
            "whole_histories.py",
            "numeric_features.py",
            "hashed_ids.py",
            "group_spec.py",
            "state_types.py",
        )
    ],
    ids=lambda path: path.relative_to(ROOT).as_posix(),
)
def test_preparing_data_and_looking_it_up_never_pay_for_tensorflow(path):
    assert not [
        name for name in imports_of(path) if name.split(".")[0] in ("tensorflow", "tf_keras")
    ]


def test_flags_are_defined_in_command_line_modules_alone():
    definers = [
        path.relative_to(ROOT).as_posix() for path in SOURCES if "flags.DEFINE_" in path.read_text()
    ]
    assert [name for name in definers if name.startswith("dgin_tf/")] == []


def constructors():
    """(Class, its constructor) of every class of the package, by the class's name."""
    for path in sorted((ROOT / "dgin_tf").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                for item in node.body:
                    if isinstance(item, ast.FunctionDef) and item.name == "__init__":
                        yield node.name, item.args


def test_constructors_take_at_most_seven_parameters():
    counts = {}
    for name, arguments in constructors():
        names = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
        counts[name] = len(set(names) - {"self", "name", "dtype"})
    assert {"Tower", "DIN", "CTRModel"} <= set(counts)
    assert {name: count for name, count in counts.items() if count > 7} == {}
