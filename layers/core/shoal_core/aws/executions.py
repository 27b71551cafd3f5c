"""Starting the training state machine, exactly once per run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from botocore.exceptions import ClientError

from shoal_core.aws.clients import client, error_code, service_errors
from shoal_core.aws.config import environment
from shoal_core.training.executions import execution_event, execution_name


def start_execution(run_id: str, dataset: str, version: str) -> None:
    """Start a run's execution, named as the run. One that was started before, running or done, is left alone.

    Source: https://docs.aws.amazon.com/step-functions/latest/apireference/API_StartExecution.html (idempotent by name).
    """
    start_named(environment().state_machine_arn, execution_name(run_id), execution_event(run_id, dataset, version))


def start_training(run_id: str, dataset: str, version: str) -> None:
    """The same for a run on a version that is committed: it begins with training."""
    start_named(environment().state_machine_arn, execution_name(run_id), execution_event(run_id, dataset, version, 1))


def start_tuning(tuning_id: str, attempt: int) -> None:
    """Start an attempt of a search; one that was started before is left alone."""
    machine, name = environment().tuning_state_machine_arn, execution_name(tuning_id, attempt)
    start_named(machine, name, {"tuning_id": tuning_id, "attempt": attempt})


def is_tuning_under_way(tuning_id: str, attempt: int) -> bool:
    """Whether the execution of an attempt of a search runs."""
    machine = environment().tuning_state_machine_arn.replace(":stateMachine:", ":execution:")
    try:
        with service_errors("Step Functions"):
            answer = client("stepfunctions").describe_execution(
                executionArn=f"{machine}:{execution_name(tuning_id, attempt)}"
            )
    except ClientError as error:
        if error_code(error) != "ExecutionDoesNotExist":
            raise
        return False
    return str(answer["status"]) == "RUNNING"


def start_batch(model: str, job: str) -> None:
    """Start the execution of a batch job; one that was started before is left alone."""
    identity = hashlib.sha256(f"{model}/{job}".encode()).hexdigest()[:12]
    # Names of executions may have 80 characters, and two names of 64 are longer.
    name = f"{model[:30]}-{job[:30]}-{identity}"
    start_named(environment().batch_state_machine_arn, name, {"model": model, "job": job})


def start_named(machine: str, name: str, event: Mapping[str, object]) -> None:
    """Start an execution under a name. One that was started before, running or done, is left alone."""
    payload = json.dumps(event, sort_keys=True)
    try:
        with service_errors("Step Functions"):
            client("stepfunctions").start_execution(stateMachineArn=machine, name=name, input=payload)
    except ClientError as error:
        if error_code(error) != "ExecutionAlreadyExists":
            raise
