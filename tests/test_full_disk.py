"""A disk that is really full: one sentence, and nothing that a later run would take for finished."""

import os
import pathlib
import subprocess
import sys

import pytest

from dgin_tf.training.loop import read_result
from tests.data_prep.logs import all_bytes, rows_of, write_log
from tests.prepared import write_prepared

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).resolve().parents[1]
CONFIG = ROOT / "experiments/dien/movielens.py:din"
SMALL = (
    "--config.data.batch_rows=16",
    "--config.network.embedding_dim=4",
    "--config.loop.epochs=2",
    "--config.loop.patience=0",
)


class Disk:
    """A file system of its own in a folder, as large as it is told to be."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()

    def resize(self, size):
        """Makes room for so many bytes in all; skips the test where mounting is not permitted."""
        kind = ["-o", f"remount,size={size}"] if self.folder.is_mount() else ["-o", f"size={size}"]
        command = ["mount", "-t", "tmpfs", *kind, "tmpfs", self.folder]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"needs the right to mount a small disk: {done.stderr.strip()}")


@pytest.fixture
def disk(tmp_path):
    if not pathlib.Path("/bin/mount").exists():
        pytest.skip("needs mount")
    disk = Disk(tmp_path / "disk")
    yield disk
    if disk.folder.is_mount():
        subprocess.run(["umount", disk.folder], check=True)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("prepared") / "data"
    path.mkdir()
    write_prepared(path, users=97)
    return path


@pytest.fixture(scope="module")
def trained(data_dir, tmp_path_factory):
    """Directory of a model that had room enough."""
    model_dir = tmp_path_factory.mktemp("trained") / "M"
    run(*training(data_dir, model_dir))
    return model_dir


def run(module, *flags):
    """Runs a command, which must succeed."""
    subprocess.run([sys.executable, "-m", module, *flags], cwd=ROOT, check=True)


def refused(module, *flags):
    """Runs a command on a full disk, which must fail with one sentence; returns it."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-m", module, *flags]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: the disk is full")
    assert line.endswith("; free some space and run the same command again.")
    return line


def size_of(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def preparing(log, output_dir):
    flags = ("--dataset=taobao", f"--input={log}", "--noprogress", "--workers=2", "--buckets=5")
    return ("data_prep.prepare", *flags, f"--output_dir={output_dir}")


def training(data_dir, model_dir):
    flags = (f"--config={CONFIG}", f"--data_dir={data_dir}", f"--model_dir={model_dir}")
    return ("experiments.train", *flags, *SMALL)


def exporting(data_dir, model_dir, export_dir):
    flags = (f"--data_dir={data_dir}", f"--model_dir={model_dir}", f"--export_dir={export_dir}")
    return ("experiments.export", *flags)


@pytest.mark.parametrize("share", [0.05, 0.5, 1.0])
def test_a_preparation_goes_on_where_the_disk_was_full(disk, tmp_path, share):
    log = write_log(tmp_path, rows_of(users=997, events=31))
    run(*preparing(log, tmp_path / "ample"))
    disk.resize(int(share * size_of(tmp_path / "ample")))  # what it works with needs room too
    refused(*preparing(log, disk.folder / "D"))
    assert not (disk.folder / "D" / "manifest.json").exists()
    assert not list(disk.folder.rglob("*.tmp"))
    disk.resize(1 << 28)
    run(*preparing(log, disk.folder / "D"))
    assert all_bytes(disk.folder / "D") == all_bytes(tmp_path / "ample")


@pytest.mark.parametrize("share", [0.03, 0.3, 0.8])
def test_a_training_goes_on_where_the_disk_was_full(disk, data_dir, trained, share):
    disk.resize(int(share * size_of(trained)))
    refused(*training(data_dir, disk.folder / "M"))
    assert not list(disk.folder.rglob("result.json"))
    assert not list(disk.folder.rglob("*.tmp"))
    disk.resize(1 << 28)
    run(*training(data_dir, disk.folder / "M"))
    results = [read_result(folder / "seed-1") for folder in (disk.folder / "M", trained)]
    assert [result.pop("seconds") > 0 for result in results] == [True, True]
    assert results[0] == results[1]


@pytest.mark.parametrize("share", [0.05, 0.4, 0.9])
def test_an_export_that_does_not_fit_leaves_nothing(disk, data_dir, trained, tmp_path, share):
    run(*exporting(data_dir, trained, tmp_path / "ample"))
    disk.resize(int(share * size_of(tmp_path / "ample")))
    refused(*exporting(data_dir, trained, disk.folder / "E"))
    assert os.listdir(disk.folder) == []
    disk.resize(1 << 28)
    run(*exporting(data_dir, trained, disk.folder / "E"))
    assert (disk.folder / "E" / "1" / "saved_model.pb").exists()
