"""The Python blocks of docs/ run as they stand, one after the other."""

import ast
import json
import pathlib
import re

import numpy as np
import pytest

from dgin_tf.schema import FIRST_ID
from dgin_tf.serving.center.events import EventParser
from dgin_tf.serving.export.vocabularies import Vocabularies
from tests.prepared import category_of, make_schema

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


SAMPLES = (
    "experiments/interest_center.py",
    "experiments/append_events.py",
    "data_prep/make_events.py",
)


@pytest.mark.parametrize("path", [*SAMPLES, "docs/events.md", "README.md"])
def test_a_sample_line_of_an_event_is_one(path, tmp_path):
    text = (ROOT / path).read_text(encoding="utf-8")
    if path.endswith(".py"):
        text = ast.get_docstring(ast.parse(text))  # what --help shows
    lines = re.findall(r'\{"user_id": [^{}]*"sequence"[^{}]*\}', text)
    assert lines
    schema = make_schema(behavior_types=("pv", "buy"))
    (tmp_path / "vocabulary").mkdir()
    for name in schema.vocabulary_sizes:
        words = {str(json.loads(line).get(name, "other")) for line in lines}
        (tmp_path / "vocabulary" / f"{name}.txt").write_text("\n".join(sorted(words)) + "\n")
    catalogue = {"category_id": category_of(np.arange(schema.vocabulary_sizes["item_id"]))}
    parser = EventParser(schema, catalogue, Vocabularies(tmp_path), fields_read={"item_id"})
    for line in lines:
        assert parser(line.encode()).values["item_id"] >= FIRST_ID
