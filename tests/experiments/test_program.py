"""The digest of a program follows what decides figures, and nothing else."""

import pathlib

import pytest

from experiments.running import program

FILES = {
    "experiments/running/tasks.py": "from dgin_tf.inputs import pipeline\n",
    "dgin_tf/inputs/pipeline.py": "ROWS = 1\n",
    "dgin_tf/training/loop.py": "import dgin_tf.optimizers\n",
    "dgin_tf/optimizers.py": "RATE = 1.0\n",
    "dgin_tf/models/din.py": '"""DIN."""\n\nfrom dgin_tf.layers.unit import Unit\n',
    "dgin_tf/layers/unit.py": 'class Unit:\n    """A layer."""\n\n    units = 36  # of Dice\n',
    "dgin_tf/models/twin.py": "HEADS = 4\n",
}


@pytest.fixture
def digest_of(tmp_path, monkeypatch):
    """Function: changes of files, and versions -> digest of DIN's program."""
    monkeypatch.setattr(program, "_ROOT", tmp_path)

    def digest_of(versions=None, **changes):
        for name, text in {**FILES, **changes.get("files", {})}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        monkeypatch.setattr(program, "versions", lambda: versions or {"tensorflow": "1"})
        program._read.cache_clear()
        program.program_digest.cache_clear()
        return program.program_digest("din")

    yield digest_of
    program._read.cache_clear()
    program.program_digest.cache_clear()


@pytest.mark.parametrize(
    "name", [name for name in FILES if name != "dgin_tf/models/twin.py"], ids=lambda name: name
)
def test_a_change_of_what_a_run_goes_through_changes_it(digest_of, name):
    assert digest_of() != digest_of(files={name: FILES[name] + "OTHER = 2\n"})


def test_another_model_does_not_change_it(digest_of):
    assert digest_of() == digest_of(files={"dgin_tf/models/twin.py": "HEADS = 8\n"})


def test_comments_docstrings_and_layout_do_not_change_it(digest_of):
    text = 'class Unit:\n    """Another text."""\n\n    # why\n    units = (36)\n'
    assert digest_of() == digest_of(files={"dgin_tf/layers/unit.py": text})


def test_versions_of_packages_change_it_and_that_of_the_release_does_not(digest_of):
    assert digest_of() != digest_of({"tensorflow": "2"})
    assert digest_of() == digest_of({"tensorflow": "1", "dgin_tf": "9"})


def test_a_run_of_a_real_model_goes_through_its_layers_inputs_and_losses(monkeypatch):
    program.program_digest.cache_clear()
    paths, read = [], program._read
    monkeypatch.setattr(program, "_read", lambda path: paths.append(path) or read(path))
    assert len(program.program_digest("din")) == 12
    names = {path.relative_to(program._ROOT).as_posix() for path in paths}
    wanted = ("losses", "metrics", "optimizers", "inputs/pipeline", "inputs/parts", "training/loop")
    wanted += ("models/din", "models/base", "layers/target_attention", "training/evaluation")
    assert {f"dgin_tf/{name}.py" for name in wanted} <= names
    assert "experiments/running/tasks.py" in names
    folders = {path.split("/")[1] for path in names}
    assert not folders & {"serving", "stores", "inspection"}
    assert "dgin_tf/models/mimn.py" not in names
    assert all(pathlib.Path(path).is_file() for path in paths)
