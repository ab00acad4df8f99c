"""What tests of several files need and takes long to make."""

import pytest

from refvit.vectors.build import build


@pytest.fixture(scope="session")
def built_kit(tmp_path_factory):
    """Path of the kit of level 1; no test changes it."""
    path = tmp_path_factory.mktemp("built") / "kit"
    build(path)
    return path
