"""The Python blocks of docs/ run as they stand, one after the other."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.stem)
def test_every_python_block_of_a_page_runs_after_those_before(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    names = {"__name__": f"docs_{page.stem}"}
    for number, block in enumerate(blocks, 1):
        exec(compile(block, f"{page.name}, block {number}", "exec"), names)


def test_the_readmes_notebook_block_runs():
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("### In a notebook")[1]
    (block,) = re.findall(r"```python\n(.*?)```", section.split("## Results")[0], re.DOTALL)
    names = {}
    exec(block, names)
    assert names["outputs"]["interest"].shape == (2, 3, 8)
