"""What a definition may hold: what moto's interpreter wouldn't do as AWS does is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from shoal.local.deploy.stack import deploy_stack
from shoal.local.deploy.state_machines import all_states, check_definition, has_distributed_map
from shoal.local.intrinsics import BadTemplate
from shoal.local.template import load_stack
from tests.support.aws import ROOT
from tests.unit.local.deploy.conftest import ACCOUNT, REGION
from tests.unit.local.deploy.stacks import TEMPLATE, write_project

MACHINES = sorted((ROOT / "statemachines").glob("*.asl.yaml"))


def machine(**changes: Any) -> dict[str, Any]:
    task = {"Type": "Task", "Resource": "arn", "Catch": [{"ErrorEquals": ["States.ALL"], "Next": "Failed"}]}
    processor = {
        "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"},
        "StartAt": "Work",
        "States": {"Work": task, "Failed": {"Type": "Fail"}},
    }
    reader = {"Resource": "arn:aws:states:::s3:getObject", "ReaderConfig": {"InputType": "JSON"}}
    items = {"Type": "Map", "ItemReader": reader, "ItemProcessor": processor, "End": True}
    return {"StartAt": "Items", "States": {"Items": items | changes}}


@pytest.mark.parametrize("path", MACHINES, ids=lambda path: path.name.partition(".")[0])
def test_ours_are_honoured(path: Path) -> None:
    check_definition(yaml.safe_load(path.read_text()), path.name)


def test_a_distributed_map_is_found_wherever_it_is() -> None:
    inner = machine()
    assert has_distributed_map(inner)
    assert has_distributed_map({"States": {"Both": {"Type": "Parallel", "Branches": [{"States": {}}, inner]}}})
    assert [name for name, _ in all_states(inner)] == ["Items", "Work", "Failed"]
    assert not has_distributed_map({"States": {"Only": {"Type": "Succeed"}}})


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"ItemBatcher": {"MaxItemsPerBatch": 2}}, "Items: ItemBatcher: items aren't batched"),
        ({"ResultWriter": {}}, "Items: ResultWriter"),
        ({"ToleratedFailurePercentage": 5}, "ToleratedFailurePercentage: a failed item never fails the Map"),
        ({"Assign": {"x": 1}}, "Assign: variables"),
        ({"QueryLanguage": "JSONata"}, "Items: QueryLanguage: only JSONPath"),
        ({"ItemReader": {"ReaderConfig": {"InputType": "PARQUET"}}}, "ItemReader: PARQUET isn't read"),
    ],
)
def test_what_isnt_honoured_is_named(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(BadTemplate, match="honour all of Training's definition") as caught:
        check_definition(machine(**changes), "Training")
    assert told in caught.value.reason


def test_a_distributed_map_that_loses_a_failure_is_refused() -> None:
    definition = machine()
    del definition["States"]["Items"]["ItemProcessor"]["States"]["Work"]["Catch"]
    with pytest.raises(BadTemplate, match="catches and records a failure, which is lost here"):
        check_definition({"QueryLanguage": "JSONata", **definition}, "Training")


def test_a_role_that_may_not_start_a_maps_children_is_refused(tmp_path: Path, endpoint: str) -> None:
    files = {"statemachines/training.asl.yaml": yaml.safe_dump(machine())}
    template = TEMPLATE.replace("DefinitionSubstitutions: {IngestArn: !GetAtt IngestFunction.Arn, Retries: 3}", "")

    def deploy(text: str) -> None:
        path = write_project(tmp_path, text, files)
        deploy_stack(load_stack(path, "shoal", {}, REGION, ACCOUNT), endpoint=endpoint, api_url="http://127.0.0.1:1")

    with pytest.raises(BadTemplate, match="has a Distributed Map, whose children AWS starts") as caught:
        deploy(template)
    machine_arn = f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:shoal-Training"
    assert f"states:StartExecution on {machine_arn}" in caught.value.reason
    assert "states:StopExecution" in caught.value.reason
    executions = machine_arn.replace(":stateMachine:", ":execution:") + ":*"
    policy = f"""Policies:
        - Statement:
            - {{Effect: Allow, Action: states:StartExecution, Resource: "{machine_arn}"}}
            - {{Effect: Allow, Action: [states:DescribeExecution, states:StopExecution], Resource: "{executions}"}}"""
    given = "Policies: [{LambdaInvokePolicy: {FunctionName: !Ref IngestFunction}}]"
    deploy(template.replace(given, policy))
