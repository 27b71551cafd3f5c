"""One embedded cloud for the tests that don't break it."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator

import pytest

from tests.e2e.cloud import LocalCloud, local_cloud
from tests.support.aws import ROOT

DIGITS = (ROOT / "examples/digits/digits.zip").read_bytes()
PENGUINS = (ROOT / "examples/penguins/penguins.csv").read_bytes()


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    with local_cloud(tmp_path_factory.mktemp("cloud")) as running:
        yield running


@pytest.fixture(scope="session")
def digits(cloud: LocalCloud) -> LocalCloud:
    """The cloud, once it serves version 1 of the model `digits`."""
    cloud.put("datasets/digits/digits.zip", DIGITS)
    cloud.succeeded("digits")
    return cloud


@pytest.fixture(scope="session")
def few_digits() -> bytes:
    """Every fourth digit: a run of seconds."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(DIGITS)) as source, zipfile.ZipFile(buffer, "w") as target:
        for name in sorted(name for name in source.namelist() if name.endswith(".png"))[::4]:
            target.writestr(zipfile.ZipInfo(name), source.read(name))
    return buffer.getvalue()
