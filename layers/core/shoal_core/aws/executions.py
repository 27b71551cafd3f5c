"""Starting the training state machine, exactly once per run."""

from __future__ import annotations

import json

from botocore.exceptions import ClientError

from shoal_core.aws.clients import client, error_code, service_errors
from shoal_core.aws.config import environment


def start_execution(run_id: str, dataset: str, version: str) -> None:
    """Start a run's execution, named as the run. One that was started before, running or done, is left alone.

    Source: https://docs.aws.amazon.com/step-functions/latest/apireference/API_StartExecution.html (idempotent by name).
    """
    payload = json.dumps({"run_id": run_id, "dataset": dataset, "version": version}, sort_keys=True)
    try:
        with service_errors("Step Functions"):
            client("stepfunctions").start_execution(
                stateMachineArn=environment().state_machine_arn, name=run_id, input=payload
            )
    except ClientError as error:
        if error_code(error) != "ExecutionAlreadyExists":
            raise
