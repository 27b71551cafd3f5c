"""AWS clients, one per service and process, with one policy of time-outs; service faults become `Unavailable`.

They are botocore's: boto3 makes the same ones, and brings resources and transfers along that nothing here uses, about a
tenth of what a small function like authorize imports at a cold start.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.loaders import Loader

from shoal_core.aws.config import environment
from shoal_core.errors import Unavailable

_CONFIG = Config(
    connect_timeout=5,
    read_timeout=60,
    retries={"mode": "standard", "max_attempts": 4},
    # 40 parallel range reads at the most: what one function ever has in flight.
    max_pool_connections=40,
    s3={"addressing_style": "path"},
)
_TRANSIENT = frozenset(
    {
        "InternalError",
        "InternalFailure",
        "InternalServerError",
        "LimitExceededException",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestTimeout",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TransactionConflictException",
    }
)


class _Loader(Loader):
    """botocore's loader of service descriptions; by itself it looks through the folders of all 400 services first."""

    def __init__(self) -> None:
        super().__init__(include_default_search_paths=True)
        self.asked: list[str] = []

    def list_available_services(self, type_name: str) -> list[str]:
        """The services that were asked for; one that botocore doesn't know then has no description."""
        return self.asked


@cache
def _loader() -> _Loader:
    return _Loader()


@cache
def _session() -> botocore.session.Session:
    session = botocore.session.get_session()
    session.register_component("data_loader", _loader())
    return session


@cache
def client(service: str) -> Any:  # noqa: ANN401 - botocore makes its client types at run time
    """The client of a service, at the embedded cloud's endpoint where one is set."""
    _loader().asked.append(service)
    return _session().create_client(service, endpoint_url=environment().endpoint_url or None, config=_CONFIG)


def error_code(error: ClientError) -> str:
    """The service's name of an error, such as `NoSuchKey`."""
    return str(error.response.get("Error", {}).get("Code", ""))


@contextmanager
def service_errors(subject: str) -> Iterator[None]:
    """Turn throttling, time-outs and server faults about `subject` into `Unavailable`, which Step Functions retries."""
    try:
        yield
    except ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if error_code(error) in _TRANSIENT or status >= 500:
            raise Unavailable(f"{subject} isn't available: {error}.", "Nothing to do: it is retried.") from error
        raise
    except BotoCoreError as error:
        raise Unavailable(f"{subject} can't be reached: {error}.", "Nothing to do: it is retried.") from error
