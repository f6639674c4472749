"""The notebooks run from top to bottom, and are stored with what they show."""

import ast
import json
import pathlib
import re

import pytest

nbformat = pytest.importorskip("nbformat", reason="needs nbformat")
nbclient = pytest.importorskip("nbclient", reason="needs nbclient")

ROOT = pathlib.Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "experiments" / "notebooks").glob("*.ipynb"))
SAYS = {
    "dgin": "strongest",
    "dien": "on causes",
    "keras_quickstart": "probabilities of the loaded SavedModel",
    "mimn": "effective_slots",
    "encode": "relevance indicator",
    "search_units": "recall",
}  # what the last cells print
LAYERS = ("encode_user", "retrieved_events")  # what opens the first layer
SIZE = "USERS, EPOCHS = "

QUICK = ("keras_quickstart",)  # in every run; the others take a minute each as well
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(path):
    return [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]


def text_of(output):
    """All that an output says."""
    return output.get("text", "") + output.get("data", {}).get("text/plain", "")


def pictures(cells):
    return [o for c in cells for o in c.outputs if "image/png" in o.get("data", {})]


def test_there_is_a_sentence_to_look_for_in_every_notebook():
    assert sorted(SAYS) == [path.stem for path in NOTEBOOKS]


@each_notebook
def test_a_notebook_is_stored_with_its_outputs_and_without_errors(path):
    cells = code_cells(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"]
    assert len(pictures(cells)) >= 2
    assert any(SAYS[path.stem] in text_of(output) for output in outputs)


@each_notebook
def test_a_stored_notebook_is_small_and_names_no_folder_of_a_machine(path):
    assert path.stat().st_size < 400_000
    words = [text_of(output) for cell in code_cells(path) for output in cell.outputs]
    assert not re.search(r"(?<![\w.])/(tmp|home|root|work|usr|Users)/", json.dumps(words))


@pytest.mark.parametrize("name", sorted(set(SAYS) - {"keras_quickstart"}))
def test_at_most_ten_statements_come_before_the_first_layer_is_opened(name):
    cells = code_cells(ROOT / "experiments" / "notebooks" / f"{name}.ipynb")
    code = "\n".join(cell.source.replace("%%capture\n", "") for cell in cells)
    opened = min(code.index(layer) for layer in LAYERS if layer in code)
    line = code[:opened].count("\n") + 1
    statements = [n for n in ast.walk(ast.parse(code)) if isinstance(n, ast.stmt)]
    assert len([statement for statement in statements if statement.end_lineno < line]) <= 10


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.stem, marks=() if path.stem in QUICK else pytest.mark.slow)
        for path in NOTEBOOKS
    ],
)
def test_a_notebook_runs_on_small_synthetic_data(path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(path, as_version=4)
    (size,) = [cell for cell in notebook.cells if cell.source.startswith(SIZE)]
    size.source = f"{SIZE}60, 1"
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(pictures(cells)) >= 2
    assert any(SAYS[path.stem] in text_of(o) for cell in cells for o in cell.outputs)
