"""The package: the command `dgin`, pinned versions, and a wheel that works without this checkout."""

import ast
import os
import pathlib
import re
import shutil
import subprocess
import sys
import venv

import pytest

from experiments.__main__ import commands, main

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGES = ("dgin_tf", "data_prep", "experiments")
version_of = pytest.importorskip("packaging.version", reason="needs packaging").Version
requirements = pytest.importorskip("packaging.requirements", reason="needs packaging")


def call(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["dgin", *arguments])
    main()


def test_help_lists_every_command_with_what_it_does(monkeypatch, capsys):
    call(monkeypatch)
    text = capsys.readouterr().out
    modules = [
        path.relative_to(ROOT).with_suffix("")
        for path in (ROOT / "experiments").glob("*.py")
        if 'if __name__ == "__main__"' in path.read_text() and path.stem != "__main__"
    ]
    assert len(modules) > 15
    assert {path.stem for path in modules} | {"prepare", "synthetic"} <= set(commands())
    for name in commands():
        assert re.search(rf"^  {name} +[A-Z]\w+", text, re.MULTILINE), name


def test_a_misspelt_command_is_answered_by_those_that_are_written_alike(monkeypatch, capsys):
    with pytest.raises(SystemExit) as error:
        call(monkeypatch, "trian")
    assert error.value.code == 2
    assert "no command 'trian'; did you mean train?" in capsys.readouterr().err


def test_a_subcommand_does_what_its_module_does(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "experiments", "prepare", "--dataset=taobao", "--input=no.csv"]
        + [f"--output_dir={tmp_path}/D"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "no.csv" in done.stderr


def requirements_of_setup():
    """Every requirement that setup.py names."""
    tree = ast.parse((ROOT / "setup.py").read_text())
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    named = [text for text in texts if isinstance(text, str) and re.match(r"^[\w-]+>=[\d.]+", text)]
    return [requirements.Requirement(text) for text in named]


def test_every_requirement_has_an_upper_bound_that_the_pinned_version_keeps():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    versions = {re.sub("[-_.]+", "-", name).lower(): version for name, version in pinned.items()}
    found = requirements_of_setup()
    assert len(found) > 20
    for requirement in found:
        version = versions[re.sub("[-_.]+", "-", requirement.name).lower()]
        assert "<" in str(requirement.specifier), requirement
        assert version_of(version) in requirement.specifier, requirement


def test_type_checkers_may_read_the_packages():
    assert all((ROOT / name / "py.typed").is_file() for name in PACKAGES)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Path of `dgin` in a fresh environment that has the wheel of this tree."""
    folder = tmp_path_factory.mktemp("installed")
    source = folder / "source"
    for name in PACKAGES:
        shutil.copytree(
            ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "results")
        )
    for name in ("setup.py", "pyproject.toml"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    subprocess.run([*pip, f"--wheel-dir={folder}", str(source)], check=True)
    venv.create(folder / "fresh", with_pip=True)
    (wheel,) = folder.glob("*.whl")
    install = ["install", "--quiet", f"--constraint={ROOT / 'constraints.txt'}", str(wheel)]
    subprocess.run([folder / "fresh/bin/python", "-m", "pip", *install], check=True)
    shutil.rmtree(source)
    return folder / "fresh/bin/dgin"


@pytest.mark.slow
def test_an_installed_wheel_goes_from_a_log_to_an_export_in_any_directory(installed, tmp_path):
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}

    def dgin(*arguments):
        done = subprocess.run(
            [installed, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done

    dgin("synthetic", "--output=log.csv", "--users=60", "--events=6000")
    dgin("prepare", "--dataset=taobao", "--input=log.csv", "--output_dir=D", "--targets_per_user=2")
    config = ("--config=dien/taobao:base_model", "--config.loop.epochs=1")
    trained = dgin("train", *config, "--data_dir=D", "--model_dir=M")
    assert trained.stdout.endswith("tensorboard --logdir=M\n")
    evaluated = dgin("evaluate", "--data_dir=D", "--model_dir=M")
    exported = dgin("export", "--data_dir=D", "--model_dir=M", "--export_dir=E")
    assert [done.stderr for done in (trained, evaluated, exported)] == ["", "", ""]
    assert (tmp_path / "E/1/saved_model.pb").is_file()
