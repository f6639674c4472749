"""Every command that reads a damaged file of ours ends with one sentence that names it.

`tests/test_damage.py` damages every kind of file and reads it; here whole commands do.
"""

import itertools
import shutil

import pytest

from tests.test_damage import BIT, REPLACED, WAYS, damage

pytestmark = pytest.mark.slow

SMALL = (
    *("--config=experiments/running/defaults.py:din", "--config.loop.epochs=1"),
    *("--config.network.embedding_dim=4", "--config.data.batch_rows=16"),
)
DATA, RUN = "--data_dir={0}/D", "--model_dir={0}/M"
BUNDLE, INDEX = "--export_dir={0}/E", "--index_dir={0}/I"
COMMANDS = {
    "train": (DATA, "--model_dir={0}/new", *SMALL),
    "train again": (DATA, RUN, *SMALL),
    "evaluate": (DATA, RUN),
    "predict": (DATA, RUN, "--output={0}/new/scores.csv"),
    "export": (DATA, RUN, "--export_dir={0}/new"),
    "inspect_model": (DATA, RUN, "--output_dir={0}/new", "--users=1"),
    "inspect_groups": (DATA, "--output_dir={0}/new"),
    "explore": (DATA, "--model_dirs=m={0}/M", "--port=0"),
    "build_index": (DATA, "--output_dir={0}/new", "--noprogress"),
    "extract_interests": (DATA, BUNDLE, "--store=lmdb:{0}/new", "--noprogress"),
    "serve": (BUNDLE, INDEX, "--rest_port=0"),
    "append_events": (DATA, INDEX, "--state_store=lmdb:{0}/S", "--events={0}/events.jsonl"),
}
OF_DATA = ("train", "evaluate", "export", "inspect_model", "inspect_groups", "build_index")
OF_RUN = ("train again", "evaluate", "export", "inspect_model")
OF_BUNDLE, OF_INDEX = ("serve", "extract_interests"), ("serve", "append_events")
# A file, relative to the world -> commands that read it.
READERS = {
    **dict.fromkeys(("D/schema.json", "D/manifest.json", "D/catalogue.npz"), OF_DATA),
    "D/vocabulary/item_id.txt": OF_DATA,
    "D/train/*.tfrecord": ("train", "inspect_groups", "build_index"),
    "D/test/*.tfrecord": ("evaluate", "inspect_model", "predict", "explore"),
    "D/whole/*.tfrecord": ("build_index", "extract_interests"),
    "M/seed-1/config.json": OF_RUN,
    **{
        f"M/seed-1/checkpoints/best-0001/{name}": OF_RUN[1:]
        for name in ("identity.json", "values.index", "values.data-*")
    },
    **{
        f"E/1/{name}": OF_BUNDLE
        for name in (
            *("saved_model.pb", "variables/variables.index", "variables/*.data-*"),
            *("assets.extra/model.json", "assets.extra/schema.json", "assets.extra/catalogue.npz"),
        )
    },
    **{f"I/{name}": OF_INDEX for name in ("index.json", "blocks.bin", "offsets.bin")},
    "S/data.mdb": ("append_events",),
}
# Without settings there is no run, without any of these no data set: other sentences say so.
UNNOTICED = {
    ("S/data.mdb", BIT),  # LMDB has no checksums
    ("S/data.mdb", REPLACED),
    ("M/seed-1/config.json", REPLACED),  # those of another run, until the weights do not fit
}


@pytest.fixture(scope="module")
def worlds(commands, tmp_path_factory):
    """Two folders with everything that commands read, of different data."""
    folders = []
    for number in (1, 2):
        folder = tmp_path_factory.mktemp(f"world{number}")
        run = commands.succeed
        log = f"--output={folder}/log.csv"
        run(
            "data_prep.synthetic",
            log,
            f"--users={40 + number}",
            f"--seed={number}",
            "--mean_length=20",
            "--min_length=5",
        )
        source = ("--dataset=taobao", f"--input={folder}/log.csv", "--workers=1", "--noprogress")
        run("data_prep.prepare", *source, f"--output_dir={folder}/D", "--buckets=1")
        for name, flags in (
            ("train", (DATA, RUN, *SMALL)),
            ("export", (DATA, RUN, BUNDLE)),
            ("build_index", (DATA, "--output_dir={0}/I", "--noprogress")),
        ):
            run(f"experiments.{name}", *(flag.format(folder) for flag in flags))
        (folder / "events.jsonl").write_text("")
        run("experiments.append_events", *(f.format(folder) for f in COMMANDS["append_events"]))
        folders.append(folder)
    return folders


@pytest.mark.parametrize(
    ("file", "way", "command"),
    [
        (file, way, command)
        for (file, readers), way in itertools.product(READERS.items(), WAYS)
        for command in readers
        if (file, way) not in UNNOTICED
    ],
)
def test_a_damaged_file_ends_a_command_with_one_sentence(
    commands, worlds, tmp_path, file, way, command
):
    world = tmp_path / "world"
    shutil.copytree(worlds[0], world)
    path, other = (next(folder.glob(file)) for folder in (world, worlds[1]))
    damage(path, way, other)
    flags = [flag.format(world) for flag in COMMANDS[command]]
    ended = commands.run(f"experiments.{command.split()[0]}", *flags)
    assert ended.returncode == 2, ended.text[-3000:]
    assert "Traceback" not in ended.text
    (sentence,) = ended.errors
    assert path.name in sentence or str(path.parent) in sentence
