"""Fixtures that the tests of the SDK and of the command line share: a moto server, a bucket, the API, cloud.json."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from tests.unit.sdk.fake_api import TOKEN, FakeApi


@pytest.fixture(scope="session")
def aws_endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    yield f"http://127.0.0.1:{port}"
    server.stop()


@pytest.fixture(scope="session")
def s3(aws_endpoint: str) -> Any:
    """Made once: boto3 takes a tenth of a second for a client."""
    return boto3.session.Session("key", "secret", region_name="us-east-1").client("s3", endpoint_url=aws_endpoint)


@pytest.fixture
def api(s3: Any) -> Iterator[FakeApi]:
    bucket = f"uploads-{uuid.uuid4().hex[:12]}"
    s3.create_bucket(Bucket=bucket)
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    server = FakeApi(s3, bucket)
    yield server
    server.close()


@pytest.fixture
def cloud(api: FakeApi, aws_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A folder with a running cloud; it is the current one."""
    found = {
        "aws_endpoint": aws_endpoint,
        "region": "us-east-1",
        "bucket": api.bucket,
        "api": api.url,
        "token": TOKEN,
        "stack": f"shoal-{api.bucket}",
        "access_key_id": "key",
        "secret_access_key": "secret",
    }
    home = tmp_path / "project"
    (home / ".shoal").mkdir(parents=True)
    (home / ".shoal" / "cloud.json").write_text(json.dumps(found))
    for name in ("SHOAL_HOME", "SHOAL_STACK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(home)
    return found
