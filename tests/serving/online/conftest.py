"""One running service of a DIN for all tests of protocols."""

import shutil

import pytest

from tests.serving.online.running import running, served


@pytest.fixture(scope="session")
def din_base(din, tmp_path_factory):
    """Base path of one version."""
    base = tmp_path_factory.mktemp("served")
    shutil.copytree(din.version, base / "1")
    return base


@pytest.fixture(scope="session")
def din_service(din_base):
    """A DIN over HTTP and gRPC."""
    with running(served("din", din_base), with_grpc=True) as handle:
        yield handle


@pytest.fixture(scope="session")
def inputs(din):
    """Inputs of serving_default, four users."""
    names = ("hist_item_id", "hist_category_id", "cand_item_id", "cand_category_id")
    return {name: din.batch[name][:4].tolist() for name in names}
