"""The Python blocks of pages without commands run as they stand, one after the other.

`tests/test_pages.py` runs the others with the commands that they need.
"""

import pytest

from tests.pages import PAGES, blocks

PYTHON_PAGES = [p for p in PAGES if blocks(p, "python") and not blocks(p, "bash")]


@pytest.mark.parametrize("page", PYTHON_PAGES, ids=lambda page: page.stem)
def test_every_python_block_of_a_page_runs_after_those_before(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": f"docs_{page.stem}"}
    for number, block in enumerate(blocks(page, "python"), 1):
        exec(compile(block.text, f"{page.name}, block {number}", "exec"), names)
