"""Executions' records: what the API answers from them when moto knows nothing of an execution."""

import json

import pytest

from shoal.local.aws_request import AwsRequest
from shoal.local.executions import ExecutionService
from shoal.local.state import StateStore

MACHINE = "arn:aws:states:us-east-1:123456789012:stateMachine:unknown-here"
ARN = "arn:aws:states:us-east-1:123456789012:execution:unknown-here:{}"


@pytest.fixture
def service(tmp_path):
    store = StateStore(tmp_path)
    with store.transaction() as db:
        for name, status, record in (
            ("done", "SUCCEEDED", {"output": "[1]", "stopDate": 3.5}),
            ("failed", "FAILED", {"error": "BadArchive", "cause": "It is empty.", "stopDate": 4.0}),
            ("going", "RUNNING", {}),
        ):
            row = (ARN.format(name), MACHINE, name, status, 2.5, '{"n":1}', json.dumps(record))
            db.execute("INSERT INTO executions VALUES(?, ?, ?, ?, ?, ?, ?)", row)
    yield ExecutionService(store, None, "123456789012", "us-east-1")
    store.close()


def ask(service, operation, **parameters):
    request = AwsRequest({}, "POST", "/", {}, json.dumps(parameters).encode(), "states", operation, "KEY")
    answer = service.answer(request)
    return answer.status, json.loads(b"".join(answer.body))


def test_a_finished_one_is_described_from_its_record(service):
    status, found = ask(service, "DescribeExecution", executionArn=ARN.format("done"))
    assert status == 200
    assert (found["status"], found["output"], found["input"]) == ("SUCCEEDED", "[1]", '{"n":1}')
    assert (found["startDate"], found["stopDate"]) == (2.5, 3.5)
    _, failed = ask(service, "DescribeExecution", executionArn=ARN.format("failed"))
    assert (failed["error"], failed["cause"]) == ("BadArchive", "It is empty.")


@pytest.mark.parametrize(
    ("name", "text", "code"),
    [
        ("done", '{"n":1}', "ExecutionAlreadyExists"),
        ("going", "{}", "ExecutionAlreadyExists"),
        ("going", '{"n":1}', None),
    ],
)
def test_names(service, name, text, code):
    status, answer = ask(service, "StartExecution", stateMachineArn=MACHINE, name=name, input=text)
    assert answer.get("__type") == code
    assert status == (400 if code else 200)
    assert code or answer == {"executionArn": ARN.format(name), "startDate": 2.5}


def test_unknown_ones(service):
    assert ask(service, "DescribeExecution", executionArn=ARN.format("no"))[1]["__type"] == "ExecutionDoesNotExist"
    assert ask(service, "ListExecutions", stateMachineArn=MACHINE)[1]["__type"] == "StateMachineDoesNotExist"


def test_one_whose_machine_is_gone_is_given_up_with_a_reason(service):
    assert service.resume() == []
    _, found = ask(service, "DescribeExecution", executionArn=ARN.format("going"))
    assert found["status"] == "ABORTED"
    assert "couldn't be resumed" in found["cause"]
