"""The middleware's own decisions, before a front of a service: who may ask, when, and what comes of a failure."""

import io
import json

import pytest

from shoal.local.cloud_state import CloudState
from shoal.local.executions import ExecutionService
from shoal.local.middleware import DEPLOYMENT_KEY, Middleware
from shoal.local.permissions import Denied
from shoal.local.s3_front import S3Front
from shoal.local.sagemaker.front import SageMakerFront
from shoal.local.streaming.kinesis_front import KinesisFront

SIGNED = "AWS4-HMAC-SHA256 Credential={}/20261121/us-east-1/{}/aws4_request, SignedHeaders=host, Signature=0"
CASES = [("s3", 403, b"<Code>AccessDenied</Code>"), ("dynamodb", 400, b"AccessDeniedException")]


def services(environ, start_response):
    """Stands for moto: answers with the path that it was asked for."""
    if environ["PATH_INFO"] == "/breaks":
        raise RuntimeError("broken")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [environ["PATH_INFO"].encode()]


class DenyAll:
    def check(self, access_key, request):
        return Denied("s3:GetObject", "*", "role", f"{access_key} may not") if access_key == "ROLE" else None


@pytest.fixture
def middleware(tmp_path):
    state = CloudState(tmp_path, "123456789012", "us-east-1")
    executions = ExecutionService(state.store, services, "123456789012", "us-east-1")
    kinesis = KinesisFront(services, state.records, "123456789012", "us-east-1")
    jobs = SageMakerFront(services, state.store, tmp_path / "jobs", "", state.account, state.region, print)
    yield Middleware(services, state, S3Front(services, state, None), None, executions, kinesis, jobs)
    state.close()


def ask(middleware, path, key="USER", service="kms", body=b"{}"):
    answers = []
    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
        "HTTP_AUTHORIZATION": SIGNED.format(key, service),
    }
    text = b"".join(middleware(environ, lambda status, headers: answers.append(status)))
    return int(answers[0].split()[0]), text


def test_until_it_is_open_only_the_deployment_is_answered(middleware):
    assert ask(middleware, "/x")[0] == 503
    assert ask(middleware, "/x", DEPLOYMENT_KEY) == (200, b"/x")
    middleware.open()
    assert ask(middleware, "/x") == (200, b"/x")


@pytest.mark.parametrize(("service", "status", "part"), CASES)
def test_a_refusal_has_the_form_of_its_service(middleware, service, status, part):
    middleware.open()
    middleware.authorizer = DenyAll()
    found, text = ask(middleware, "/b/k", "ROLE", service)
    assert found == status
    assert part in text
    assert b"ROLE may not" in text


def test_a_failure_inside_is_an_answer_too(middleware):
    middleware.open()
    status, text = ask(middleware, "/breaks")
    assert status == 500
    assert json.loads(text)["__type"] == "InternalError"
