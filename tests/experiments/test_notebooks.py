"""The notebooks run from top to bottom, and are committed without outputs."""

import pathlib

import pytest

nbformat = pytest.importorskip("nbformat", reason="needs nbformat")
nbclient = pytest.importorskip("nbclient", reason="needs nbclient")

ROOT = pathlib.Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "experiments" / "notebooks").glob("*.ipynb"))
SAYS = {
    "dgin": "strongest",
    "dien": "on causes",
    "mimn": "effective_slots",
    "encode": "relevance indicator",
    "search_units": "recall",
}  # what the last cells print

QUICK = ("dgin", "dien")  # in every run; the others take a minute each as well


def test_there_is_a_sentence_to_look_for_in_every_notebook():
    assert sorted(SAYS) == [path.stem for path in NOTEBOOKS]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_committed_without_outputs(path):
    cells = nbformat.read(path, as_version=4).cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.stem, marks=() if path.stem in QUICK else pytest.mark.slow)
        for path in NOTEBOOKS
    ],
)
def test_a_notebook_runs_on_small_made_up_data(path, monkeypatch):
    monkeypatch.setenv("USERS", "60")
    monkeypatch.setenv("EPOCHS", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for name in ("DATA_DIR", "MODEL_DIR"):
        monkeypatch.delenv(name, raising=False)
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", ())]
    pictures = [out for out in outputs if "image/png" in out.get("data", {})]
    assert len(pictures) == 2
    assert any(SAYS[path.stem] in out.get("data", {}).get("text/plain", "") for out in outputs)
