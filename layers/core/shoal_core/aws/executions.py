"""Starting the training state machine, exactly once per run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from botocore.exceptions import ClientError

from shoal_core.aws.clients import client, error_code, service_errors
from shoal_core.aws.config import environment


def start_execution(run_id: str, dataset: str, version: str) -> None:
    """Start a run's execution, named as the run. One that was started before, running or done, is left alone.

    Source: https://docs.aws.amazon.com/step-functions/latest/apireference/API_StartExecution.html (idempotent by name).
    """
    start_named(environment().state_machine_arn, run_id, {"run_id": run_id, "dataset": dataset, "version": version})


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
