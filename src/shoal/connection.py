"""Which cloud to talk to, and how: its HTTP API, its upload bucket and its AWS endpoint."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import requests
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from shoal.errors import BadRequest, ConnectionFailed, NotAuthorised, NotFound, ServiceFailed, ShoalError, from_response

if TYPE_CHECKING:
    from urllib3.response import BaseHTTPResponse

CONNECT_SECONDS = 5
READ_SECONDS = 35  # an HTTP API answers within 30 s or not at all
LONGEST_WAIT = 60
"""Seconds that an answer may ask to wait before the request is repeated."""
ASKING = ("/predict", "/infer")
"""How the paths of requests end that ask a model, which changes nothing."""
OUTPUTS = ("Bucket", "ApiUrl", "TokenSecretArn")
DENIED = (
    "AccessDenied",
    "AccessDeniedException",
    "UnrecognizedClientException",
    "ExpiredToken",
    "InvalidClientTokenId",
)


class _Patience(Retry):
    """Waits as long as an answer's `Retry-After` asks, up to a minute: that of a monthly limit may be weeks."""

    def get_retry_after(self, response: BaseHTTPResponse) -> float | None:
        """Seconds to wait; None, so hardly any, where they are too many: the answer is told soon, then."""
        seconds = super().get_retry_after(response)
        return seconds if seconds is not None and seconds <= LONGEST_WAIT else None


@dataclass(frozen=True)
class Connection:
    """One cloud: Shoal's embedded one, or a stack on AWS.

    Args:
        api: The HTTP API's URL, without a slash at the end.
        token: Bearer token for the API.
        bucket: Bucket that takes uploads.
        stack: The stack's name; functions' log groups start with it.
        session: Where AWS clients come from.
        aws_endpoint: AWS endpoint of the embedded cloud; None on AWS.
        artifacts: Bucket with shards and models; empty where the cloud doesn't tell.
    """

    api: str
    token: str = field(repr=False)
    bucket: str
    stack: str
    session: boto3.session.Session = field(repr=False)
    aws_endpoint: str | None = None
    artifacts: str = ""

    def aws(self, service: str) -> Any:  # noqa: ANN401 - boto3 makes its client classes at run time
        """A boto3 client for this cloud."""
        # Proxies are for the internet; the embedded cloud is on this machine.
        config = Config(retries={"mode": "standard", "max_attempts": 4}, proxies={} if self.aws_endpoint else None)
        create: Any = self.session.client
        return create(service, endpoint_url=self.aws_endpoint, config=config)

    @cached_property
    def s3(self) -> Any:  # noqa: ANN401
        """The S3 client, made once."""
        return self.aws("s3")

    @cached_property
    def _repeating(self) -> requests.Session:
        """For reads, and for predictions, which change nothing: a function that dies answers with 500."""
        again = _Patience(
            total=3,
            backoff_factor=0.1,
            status_forcelist=(500, 502, 503, 504),
            allowed_methods=None,
            raise_on_status=False,
        )
        return self._session_with(again)

    @cached_property
    def _once(self) -> requests.Session:
        """For what changes something: repeated only where no connection was made."""
        return self._session_with(Retry(total=None, connect=3, read=0, redirect=0, status=0, other=0))

    def _session_with(self, retry: Retry) -> requests.Session:
        session = requests.Session()
        session.trust_env = self.aws_endpoint is None
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(max_retries=retry))
        return session

    def request(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        content_type: str | None = None,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """One call of the HTTP API; its JSON object.

        Raises:
            ConnectionFailed: Nothing answers at the API's address.
            NotAuthorised, NotFound, BadRequest, ServiceFailed: What the API answered.
        """
        data = self._call(method, path, "application/json", body, content_type, query, headers)
        return _json_object(data, f"{method} {path}")

    def fetch(self, path: str) -> bytes:
        """What a path of the HTTP API holds, as it is. Raises what `request` does."""
        return self._call("GET", path, "*/*")

    def _call(
        self,
        method: str,
        path: str,
        accept: str,
        body: bytes | None = None,
        content_type: str | None = None,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        sent = {"Authorization": f"Bearer {self.token}", "Accept": accept, **(headers or {})}
        if content_type:
            sent["Content-Type"] = content_type
        session = self._repeating if method == "GET" or path.endswith(ASKING) else self._once
        try:
            answer = session.request(
                method,
                self.api + path,
                data=body,
                params=query,
                headers=sent,
                timeout=(CONNECT_SECONDS, READ_SECONDS),
            )
        except requests.RequestException as error:
            raise ConnectionFailed(f"{self.api} doesn't answer ({type(error).__name__}).", self._start_it()) from error
        if not answer.ok:
            raise from_response(answer.status_code, answer.content, f"{method} {path}")
        return answer.content

    def _start_it(self) -> str:
        if self.aws_endpoint:
            return "Start the embedded cloud with `shoal up -d`."
        return f"Check the network, and that stack {self.stack!r} is still deployed."


def _json_object(body: bytes, request: str) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except ValueError as error:
        raise ServiceFailed(f"{request} was answered with something that isn't JSON.") from error
    if not isinstance(document, dict):
        raise ServiceFailed(f"{request} was answered with a {type(document).__name__}, not an object.")
    return document


def state_folder(start: Path | None = None) -> Path | None:
    """The embedded cloud's state folder: $SHOAL_HOME, or the nearest `.shoal` with a cloud from `start` upwards."""
    home = os.environ.get("SHOAL_HOME")
    if home:
        return Path(home)
    folder = (start or Path.cwd()).resolve()
    for candidate in (folder, *folder.parents):
        if (candidate / ".shoal" / "cloud.json").is_file():
            return candidate / ".shoal"
    return None


def project_folder(start: Path | None = None) -> Path:
    """The folder that `shoal up` and `shoal down` are about, from `start` upwards.

    It is the one with an embedded cloud's state, else the one with a template.yaml, else `start` itself.
    """
    folder = (start or Path.cwd()).resolve()
    for name in (".shoal/cloud.json", "template.yaml"):
        for candidate in (folder, *folder.parents):
            if (candidate / name).is_file():
                return candidate
    return folder


@lru_cache(maxsize=8)
def _session(access_key_id: str, secret_access_key: str, region: str) -> boto3.session.Session:
    """boto3's session for the embedded cloud; kept, since it takes a tenth of a second to read its service models."""
    return boto3.session.Session(access_key_id, secret_access_key, region_name=region)


def connect_local(start: Path | None = None) -> Connection:
    """The embedded cloud that runs here.

    Raises:
        ConnectionFailed: There is none.
    """
    folder = state_folder(start)
    path = folder / "cloud.json" if folder else None
    if path is None or not path.is_file():
        where = path or f"{(start or Path.cwd()) / '.shoal'} or above"
        raise ConnectionFailed(
            f"No embedded cloud is running here ({where} has none).",
            "Start one with `shoal up -d`, or name a stack on AWS with --stack NAME.",
        )
    try:
        cloud = json.loads(path.read_bytes())
        session = _session(cloud["access_key_id"], cloud["secret_access_key"], cloud["region"])
        return Connection(
            api=cloud["api"].rstrip("/"),
            token=cloud["token"],
            bucket=cloud["bucket"],
            stack=cloud["stack"],
            session=session,
            aws_endpoint=cloud["aws_endpoint"],
            artifacts=cloud.get("artifacts_bucket", ""),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConnectionFailed(
            f"{path} can't be read ({error!r}).", "Start the cloud anew with `shoal down` and `shoal up -d`."
        ) from error


def connect_stack(stack: str) -> Connection:
    """A stack on AWS, found by its CloudFormation outputs with boto3's ordinary credentials.

    Raises:
        ConnectionFailed: AWS can't be reached, or there are no credentials.
        NotFound: No such stack in this account and region.
        BadRequest: A stack that isn't Shoal's.
    """
    session = boto3.session.Session()
    try:
        stacks = session.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
        outputs = {item["OutputKey"]: item["OutputValue"] for item in stacks[0].get("Outputs", [])}
        missing = [name for name in OUTPUTS if name not in outputs]
        if missing:
            raise BadRequest(
                f"Stack {stack!r} isn't a Shoal stack: it lacks the outputs {', '.join(missing)}.",
                "Name the stack that `sam deploy` made from Shoal's template.yaml.",
            )
        secret = session.client("secretsmanager").get_secret_value(SecretId=outputs["TokenSecretArn"])
    except (BotoCoreError, ClientError) as error:
        raise aws_error(error, f"stack {stack!r}") from error
    return Connection(
        api=outputs["ApiUrl"].rstrip("/"),
        token=secret["SecretString"],
        bucket=outputs["Bucket"],
        stack=stack,
        session=session,
        artifacts=outputs.get("ArtifactsBucket", ""),
    )


def aws_error(error: Exception, subject: str) -> ShoalError:
    """The SDK's error for one of botocore's, about `subject` (an object in words)."""
    if not isinstance(error, ClientError):
        return ConnectionFailed(
            f"AWS can't be reached for {subject}: {str(error).rstrip('.')}.",
            "Check the network and the credentials (`aws sts get-caller-identity`); locally, `shoal status`.",
        )
    code = error.response.get("Error", {}).get("Code", "")
    message = error.response.get("Error", {}).get("Message", "") or str(error)
    if code in DENIED:
        return NotAuthorised(f"AWS refused {subject}: {message}", "Use credentials that may read the stack.")
    if code in ("NoSuchBucket", "NoSuchKey", "404", "ResourceNotFoundException") or "does not exist" in message:
        return NotFound(f"AWS has no {subject}: {message}", "Check the name, the account and the region.")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
    return (BadRequest if status < 500 else ServiceFailed)(f"AWS answered {code} for {subject}: {message}")
