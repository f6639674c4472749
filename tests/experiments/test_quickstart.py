"""The whole road in one command: from nothing to scores of an exported model, and to a report."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from dgin_tf.serving.online.ranker import Ranker, RawRanker

ROOT = pathlib.Path(__file__).resolve().parents[2]


def quickstart(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "experiments.quickstart", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quickstart")
    small = ("--users=60", "--epochs=1", "--targets_per_user=2", "--max_history=23")
    process = quickstart(f"--output_dir={folder}", *small)
    assert process.returncode == 0, process.stderr[-3000:]
    assert process.stderr == "", "TensorFlow's messages, a warning of retracing, or one of ours"
    return folder, process.stdout


def test_every_step_leaves_its_result(finished):
    folder, _ = finished
    for name in ("din", "dien"):
        assert (folder / name / "result.json").is_file()
        assert (folder / name / "seed-1" / "report.html").is_file()
        assert (folder / "exported" / name / "1" / "saved_model.pb").is_file()
    assert list((folder / "dien").rglob("user-1-evolution.png"))


def test_it_says_how_well_the_models_do_and_where_everything_is(finished):
    folder, said = finished
    assert said.count("AUC") >= 2
    assert "a fresh process scores one user's candidates" in said
    assert "<- the next click" in said
    assert str(folder / "report.html") in said
    assert "curl -d @" in said


def test_its_page_tells_the_story_in_pictures_and_links_to_pages_that_are_there(finished):
    folder, _ = finished
    page = (folder / "report.html").read_text()
    sections = re.findall("<h2>(.*?)</h2>", page)
    assert sections == [
        *("The log", "Learning", "How well they predict", "What the models look at"),
        *("One user&#x27;s candidates, ranked", "What was exported", "Next steps"),
    ]
    assert page.count("data:image/png;base64,") == 5
    assert "lie on the true causes" in page
    assert not re.search(r"examples</th>.*?\d\.0000", page)
    links = re.findall('href="(.*?)"', page)
    assert len(links) == 3
    assert all((folder / link).is_file() for link in links)  # relative ones


# Shows a page in a frame, since a window has a smallest width of its own, and says how wide it is.
FRAME = """<iframe id="frame" style="border:0;width:{width}px;height:3000px"></iframe><pre id="said"></pre>
<script>
frame.onload = () => {{
  const page = frame.contentDocument.documentElement, images = [...page.querySelectorAll("img")];
  const loaded = images.filter(image => image.naturalWidth > 0);
  said.textContent = [page.scrollWidth, page.clientWidth, loaded.length, images.length].join(" ");
}};
frame.srcdoc = {page};
</script>"""


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 420])
@pytest.mark.parametrize("page", ["report.html", "dien/seed-1/report.html", "data/report.html"])
def test_nothing_on_a_page_overflows_the_window(finished, tmp_path, page, width):
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if not chromium:
        pytest.skip("needs Chromium, which renders the page (Debian package chromium)")
    text = json.dumps((finished[0] / page).read_text())
    (tmp_path / "frame.html").write_text(FRAME.format(width=width, page=text))
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000")
    process = subprocess.run(
        [chromium, *flags, "--dump-dom", (tmp_path / "frame.html").as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
    )
    (said,) = re.findall(r'<pre id="said">([\d ]+)</pre>', process.stdout)
    wide, window, loaded, images = map(int, said.split())
    assert width - 20 <= window <= width  # less a bar to scroll
    assert wide <= window
    assert loaded == images


def test_raw_ids_of_the_log_rank_with_the_exported_model(finished):
    folder, _ = finished
    items = [line.split(",")[1] for line in (folder / "log.csv").read_text().splitlines()[:7]]
    ranker = Ranker(folder / "exported" / "dien")
    found = RawRanker(ranker).rank(items[:4], items[4:])
    assert found.shape == (3,)
    assert np.isfinite(found).all()


def test_a_dataset_without_input_is_refused_in_one_sentence(tmp_path):
    process = quickstart("--dataset=movielens", f"--output_dir={tmp_path}")
    assert process.returncode == 2
    assert process.stderr.strip().splitlines()[-1].startswith("error: expected --input=FILE")
