"""Python blocks of pages without commands run as they stand, one after the other; sample events are events.

`tests/test_pages.py` runs the other pages with the commands that they need.
"""

import ast
import json
import re

import numpy as np
import pytest

from dgin_tf.schema import FIRST_ID
from dgin_tf.serving.center.events import EventParser
from dgin_tf.serving.export.vocabularies import Vocabularies
from tests.pages import PAGES, ROOT, blocks
from tests.prepared import category_of, make_schema

PYTHON_PAGES = [p for p in PAGES if blocks(p, "python") and not blocks(p, "bash")]


@pytest.mark.parametrize("page", PYTHON_PAGES, ids=lambda page: page.stem)
def test_every_python_block_of_a_page_runs_after_those_before(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": f"docs_{page.stem}"}
    for number, block in enumerate(blocks(page, "python"), 1):
        exec(compile(block.text, f"{page.name}, block {number}", "exec"), names)


SAMPLES = (
    "experiments/interest_center.py",
    "experiments/append_events.py",
    "data_prep/make_events.py",
)
EVENT_PAGES = [
    f"docs/{n}.md" for n in ("events", "interest_center", "behavior_index", "group_engine")
]


@pytest.mark.parametrize("path", [*SAMPLES, *EVENT_PAGES])
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
