"""One export of each kind of model for all tests of serving."""

import pytest

from tests.serving import exported


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    return exported.make_data(tmp_path_factory.mktemp("served") / "data")


@pytest.fixture(scope="session")
def din(data, tmp_path_factory):
    """A DIN, whose state grows with the history."""
    return exported.export("din", data, tmp_path_factory.mktemp("din"))


@pytest.fixture(scope="session")
def base_model(data, tmp_path_factory):
    """A BaseModel that reads a user field and whose state is incremental."""
    return exported.export(
        "base_model", data, tmp_path_factory.mktemp("base"), user_fields=("user_id",)
    )


@pytest.fixture(scope="session")
def mimn(data, tmp_path_factory):
    """A MIMN, whose state has a fixed size and follows a stream."""
    return exported.export("mimn", data, tmp_path_factory.mktemp("mimn"), slots=3)


@pytest.fixture(scope="session")
def wide_deep(data, tmp_path_factory):
    """A Wide&Deep, whose state cannot follow a stream."""
    return exported.export("wide_deep", data, tmp_path_factory.mktemp("wide"), buckets=31)
