"""One moto server for the deployment tests, empty before each."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from moto.core.model_instances import reset_model_data
from moto.server import ThreadedMotoServer

REGION, ACCOUNT = "us-east-1", "123456789012"
_SESSION = boto3.Session("user", "user", region_name=REGION)


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    yield f"http://{host}:{port}"
    moto.stop()


@pytest.fixture
def endpoint(server: str) -> str:
    reset_model_data()
    return server


def clients(endpoint: str) -> Callable[[str], Any]:
    """Clients with a user's own keys, by service."""
    return lambda service: _SESSION.client(service, endpoint_url=endpoint)


@pytest.fixture
def client(endpoint: str) -> Callable[[str], Any]:
    return clients(endpoint)
