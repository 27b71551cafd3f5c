"""Tasks that call an AWS API: checked by the API's own model, and spelt as it does."""

from __future__ import annotations

from typing import Any

import pytest

from shoal.local.deploy.sdk_tasks import sdk_problems, spelt_for_interpreter
from shoal.local.deploy.state_machines import check_definition
from shoal.local.intrinsics import BadTemplate

SDK = "arn:aws:states:::aws-sdk:"


def task(resource: str, result: str | None = "$", **parameters: Any) -> dict[str, Any]:
    return {"Type": "Task", "Resource": SDK + resource, "Parameters": parameters, "ResultPath": result, "End": True}


START = task(
    "sfn:startExecution", None, **{"StateMachineArn.$": "$$.StateMachine.Id", "Name": "next", "Input.$": "$.input"}
)


def test_parameters_are_spelt_as_the_api_does_wherever_the_task_is() -> None:
    machine = {
        "Start": START,
        "Other": {"Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "Parameters": {"FunctionName": "f"}},
        "Each": {"Type": "Map", "ItemProcessor": {"StartAt": "Start", "States": {"Start": START}}},
        "Both": {"Type": "Parallel", "Branches": [{"StartAt": "Start", "States": {"Start": START}}]},
    }
    found = spelt_for_interpreter(machine)
    spelt = {"stateMachineArn.$": "$$.StateMachine.Id", "name": "next", "input.$": "$.input"}
    assert found["Start"] == {**START, "Parameters": spelt}
    assert found["Other"] == machine["Other"]
    assert found["Each"]["ItemProcessor"]["States"]["Start"]["Parameters"] == spelt
    assert found["Both"]["Branches"][0]["States"]["Start"]["Parameters"] == spelt
    assert list(sdk_problems("Start", START)) == []


def test_fields_inside_fields_are_those_of_the_api() -> None:
    given = task(
        "ecs:runTask", None, Cluster="c", TaskDefinition="t", Overrides={"ContainerOverrides": [{"Name": "n"}]}
    )
    spelt = spelt_for_interpreter({"Run": given})["Run"]["Parameters"]
    assert spelt == {"cluster": "c", "taskDefinition": "t", "overrides": {"containerOverrides": [{"name": "n"}]}}
    plain = task("dynamodb:getItem", TableName="t", Key={"pk": {"S.$": "$.x"}})
    assert spelt_for_interpreter({"Get": plain})["Get"] == plain


@pytest.mark.parametrize(
    ("state", "problem"),
    [
        (task("sfn:startExecution", None, Name="n"), "StartExecution needs StateMachineArn"),
        (task("sfn:startExecution", None, StateMachineArn="a", Colour="red"), "StartExecution has no Colour"),
        (task("sfn:startExecution", None, stateMachineArn="a"), "StartExecution has no stateMachineArn"),
        (task("ecs:runTask", None, TaskDefinition="t", Overrides={"Foo": 1}), "RunTask has no Overrides.Foo"),
        (task("sfn:describeExecution", ExecutionArn="a"), "in camel case here; use `ResultPath: null`"),
        (task("nowhere:go"), "there is no AWS service 'nowhere'"),
        (task("sfn:dance"), "sfn has no operation 'dance'"),
    ],
)
def test_what_isnt_the_apis_fails_the_deploy(state: dict[str, Any], problem: str) -> None:
    found = list(sdk_problems("Go", state))
    assert found and all(entry.startswith("Go: ") for entry in found) and problem in found[0]
    with pytest.raises(BadTemplate, match="doesn't honour all of Training's definition") as caught:
        check_definition({"StartAt": "Go", "States": {"Go": state}}, "Training")
    assert problem in caught.value.reason
