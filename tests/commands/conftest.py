"""The process that runs commands, and what they read, shared by the tests of all commands."""

import pytest

from tests.forked_commands import ForkedCommands
from tests.serving.exported import make_data


@pytest.fixture(scope="session")
def commands(tmp_path_factory):
    running = ForkedCommands(tmp_path_factory.mktemp("output"))
    yield running
    running.close()


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """Folder with what commands read: a data set, a log, and a run that has but its settings."""
    folder = tmp_path_factory.mktemp("world")
    make_data(folder / "data")
    (folder / "run").mkdir()
    (folder / "run" / "config.json").write_text("{}")
    rows = [f"{user},{user + n},1,pv,{1511539200 + n}\n" for user in range(1, 40) for n in range(9)]
    (folder / "events.csv").write_text("".join(rows))
    return folder
