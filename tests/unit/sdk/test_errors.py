import json

import pytest

from shoal import BadRequest, NotAuthorised, NotFound, RunFailed, ServiceFailed, ShoalError, errors
from shoal._runs import Run


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, BadRequest), (404, NotFound), (413, BadRequest), (500, ServiceFailed), (503, ServiceFailed)],
)
def test_problem_json_gives_its_reason_and_fix(status, kind):
    body = json.dumps({"title": "T", "detail": "Model 'x' isn't there.", "fix": "Name one that is."}).encode()
    error = errors.from_response(status, body, "GET /models/x")
    assert type(error) is kind
    assert str(error) == "Model 'x' isn't there. Fix: Name one that is."


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_token_is_explained(status):
    error = errors.from_response(status, b'{"message":"Unauthorized"}', "GET /runs")
    assert isinstance(error, NotAuthorised)
    assert str(status) in error.reason and error.fix


def test_a_scope_that_lacks_is_named():
    problem = {"detail": "Token 'abc' lacks the scope 'predict:x'.", "fix": "Use a token that has it."}
    error = errors.from_response(403, json.dumps(problem).encode(), "POST /models/x/predict")
    assert isinstance(error, errors.NotAuthorised)
    assert error.reason == problem["detail"] and error.fix == problem["fix"]


@pytest.mark.parametrize(("status", "message"), [(413, "Request Too Long"), (429, "Too Many Requests")])
def test_what_the_gateway_says_by_itself_gets_a_fix(status, message):
    error = errors.from_response(status, json.dumps({"message": message}).encode(), "POST /models/x/predict")
    assert isinstance(error, BadRequest)
    assert error.reason.startswith("POST /models/x/predict: ")
    assert "fewer" in error.fix


@pytest.mark.parametrize("body", [b"", b"<html>", b"[1]", b"\xff"])
def test_an_answer_without_details_names_the_request(body):
    error = errors.from_response(502, body, "GET /runs")
    assert error.reason == "GET /runs was answered with 502 (Bad Gateway)."


def test_a_failed_run_says_where_why_and_what_to_do():
    failure = {"stage": "Plan Shards", "error": "BadArchive", "reason": "It is empty.", "fix": "Add files."}
    error = RunFailed(Run(None, {"run_id": "r1", "status": "failed", "failure": failure}))  # type: ignore[arg-type]
    assert isinstance(error, ShoalError)
    assert str(error) == "Run r1 failed at Plan Shards: It is empty. Fix: Add files."
