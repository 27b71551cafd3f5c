"""The embedded cloud's front: every AWS request goes through here, and most of them on to moto.

Order: who asks (permissions), how much (limits), then the service's own front, which makes it atomic and durable.
"""

from __future__ import annotations

import io
import logging
import threading
from collections.abc import Callable, Iterable
from typing import Protocol
from urllib.parse import quote

from shoal.local import limits, permissions
from shoal.local.aws_request import AwsRequest, Environ, read_request
from shoal.local.aws_response import AwsResponse, StartResponse, WsgiApp, call, error_response
from shoal.local.cloud_state import CloudState
from shoal.local.executions import ExecutionService
from shoal.local.lambda_api import LambdaApi
from shoal.local.queues import Queues
from shoal.local.s3_front import S3Front
from shoal.local.sagemaker.front import SageMakerFront
from shoal.local.streaming.kinesis_front import KinesisFront
from shoal.local.table_exports import OPERATIONS as EXPORTS
from shoal.local.table_exports import TableExports
from shoal.local.table_state import STATEMENTS, WRITES

_log = logging.getLogger(__name__)
DEPLOYMENT_KEY = "SHOALADMINISTRATOR00"
_READS = ("Get", "Describe", "List", "BatchGet")
_PARAMETER_WRITES = {"PutParameter", "DeleteParameter", "DeleteParameters", "LabelParameterVersion"}


def _is_form_upload(request: AwsRequest) -> bool:
    """A browser's upload to a bucket: its key and signature are fields of the form."""
    form = request.header("Content-Type").startswith("multipart/form-data")
    return form and request.service == "s3" and request.method == "POST"


class Authorizer(Protocol):
    """What the middleware needs of `permissions.Authorizer`."""

    def check(self, access_key: str, request: permissions.Request) -> permissions.Denied | None:
        """None when allowed."""
        ...


class Middleware:
    """A WSGI application: AWS's API of the embedded cloud.

    Args:
        app: Moto's WSGI application.
        state: Where everything is kept.
        s3: Front of S3.
        lambda_api: Answers Lambda's API.
        executions: Answers Step Functions' execution API.
        kinesis: Front of Kinesis.
        sagemaker: Front of SageMaker.
    """

    def __init__(
        self,
        app: WsgiApp,
        state: CloudState,
        s3: S3Front,
        lambda_api: LambdaApi,
        executions: ExecutionService,
        kinesis: KinesisFront,
        sagemaker: SageMakerFront,
    ) -> None:
        self._app = app
        self._state = state
        self.queues = Queues(state.queues, state.account, state.region, self._forward)
        self._executions = executions
        self._lambda_api = lambda_api
        self._exports = TableExports(state.store, state.account, state.region, self._put_for)
        self._open = threading.Event()
        self.authorizer: Authorizer | None = None
        self._tables_lock, self._rest_lock = threading.RLock(), threading.RLock()
        self._fronts: dict[str, Callable[[AwsRequest], AwsResponse]] = {
            "s3": s3.answer,
            "dynamodb": self._tables,
            "kinesis": kinesis.answer,
            "sqs": self.queues.answer,
            "states": self._machines,
            "events": self._events,
            "secretsmanager": self._secrets,
            "ssm": self._parameters,
            "lambda": self._lambda,
            "sagemaker": sagemaker.answer,
        }

    def open(self) -> None:
        """Answer everybody and record from now on; until then, only the deployment is answered and nothing recorded."""
        self._open.set()

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        request = read_request(environ)
        try:
            response = self._answer(request)
        except Exception:  # noqa: BLE001 - a client gets an answer in its service's own form, whatever broke
            _log.exception("%s %s failed inside the embedded cloud", request.method, request.path)
            message = "The embedded cloud failed on this request; see .shoal/cloud.log."
            response = error_response(request, "InternalError", message, 500)
        return response.send(start_response)

    def _answer(self, request: AwsRequest) -> AwsResponse:
        if not self._open.is_set():
            if request.access_key != DEPLOYMENT_KEY:
                return error_response(request, "ServiceUnavailable", "The embedded cloud is starting.", 503)
            return self._forward(request)
        if not request.access_key and not _is_form_upload(request):
            # Nothing here is public: AWS would refuse it, too. (Signatures themselves aren't verified.)
            code = "AccessDenied" if request.service == "s3" else "MissingAuthenticationTokenException"
            status = 403 if request.service == "s3" else 400
            return error_response(request, code, "The request isn't signed: no access key is given.", status)
        denied = self._denied(request)
        if denied is not None:
            code = "AccessDenied" if request.service == "s3" else "AccessDeniedException"
            status = 403 if request.service in ("s3", "lambda", "sqs") else 400
            return error_response(request, code, denied.message, status)
        refused = limits.check(request)
        if refused is not None:
            return error_response(request, refused.code, refused.message, refused.status)
        front = self._fronts.get(request.service)
        return front(request) if front else self._forward(request)

    def _denied(self, request: AwsRequest) -> permissions.Denied | None:
        if self.authorizer is None or not request.access_key:
            return None
        seen = permissions.Request(
            method=request.method,
            host=request.header("Host"),
            path=request.path,
            query=str(request.environ.get("QUERY_STRING", "")),
            headers=request.headers,
            body=request.body,
        )
        return self.authorizer.check(request.access_key, seen)

    def _forward(self, request: AwsRequest) -> AwsResponse:
        request.rewind()
        return call(self._app, request.environ)

    def _lambda(self, request: AwsRequest) -> AwsResponse:
        return self._lambda_api.answer(request) or self._forward(request)

    def _machines(self, request: AwsRequest) -> AwsResponse:
        if self._executions.handles(request.operation):
            return self._executions.answer(request)
        return self._forward(request)

    def _tables(self, request: AwsRequest) -> AwsResponse:
        """DynamoDB, one request at a time: moto loses updates and breaks scans under threads."""
        with self._tables_lock:
            if request.operation in EXPORTS:
                return self._exports.answer(request)
            response = self._forward(request)
            if response.ok and request.operation in WRITES | STATEMENTS | {"DeleteTable"}:
                self._state.tables.record(request.operation, request.json)
            return response

    def _put_for(self, request: AwsRequest, bucket: str, key: str, body: bytes) -> AwsResponse:
        """Write an object as who made a request, with that key's permissions."""
        signed, path = str(request.environ.get("HTTP_AUTHORIZATION", "")), f"/{bucket}/{key}"
        environ: Environ = {
            **{name: value for name, value in request.environ.items() if not name.startswith("HTTP_X_AMZ")},
            "REQUEST_METHOD": "PUT",
            "PATH_INFO": path.encode().decode("latin-1"),
            "RAW_URI": quote(path),
            "REQUEST_URI": quote(path),
            "QUERY_STRING": "",
            "CONTENT_TYPE": "application/octet-stream",
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_AUTHORIZATION": signed.replace(f"/{request.service}/aws4_request", "/s3/aws4_request"),
            "wsgi.input": io.BytesIO(body),
            "wsgi.input_terminated": True,
        }
        return self._answer(read_request(environ))

    def _events(self, request: AwsRequest) -> AwsResponse:
        response = self._forward(request)
        if response.ok and request.operation == "PutEvents":
            self.queues.record_all()
        return response

    def _secrets(self, request: AwsRequest) -> AwsResponse:
        with self._rest_lock:
            response = self._forward(request)
            if response.ok and not request.operation.startswith(_READS):
                self._state.secrets.record_all()
            return response

    def _parameters(self, request: AwsRequest) -> AwsResponse:
        with self._rest_lock:
            response = self._forward(request)
            if response.ok and request.operation in _PARAMETER_WRITES:
                self._state.parameters.record_all()
            return response
