"""Front of SageMaker's API: CreateTrainingJob, DescribeTrainingJob and StopTrainingJob; the rest is moto's.

A job is kept by moto, which has none run: this starts its process and tells moto how it goes. What is told is kept on
disk, too; a job that was under way when the cloud ended has failed, as one whose machine AWS lost.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from moto.sagemaker.models import FakeTrainingJob, SageMakerModelBackend, sagemaker_backends

from shoal.local.aws_request import AwsRequest
from shoal.local.aws_response import AwsResponse, WsgiApp, bytes_response, call, error_response
from shoal.local.compute.spec import LogRecord
from shoal.local.permissions import RolePolicies, credentials_for
from shoal.local.sagemaker.running import JobEnded, JobProcess
from shoal.local.sagemaker.validation import request_problems
from shoal.local.state import StateStore

OPERATIONS = frozenset({"CreateTrainingJob", "DescribeTrainingJob", "StopTrainingJob"})
LOST = "InternalServerError: We encountered an internal error: the embedded cloud ended while the job ran."
_SETTING = "training-jobs"
_PRINCIPAL = "sagemaker.amazonaws.com"
_IMAGE = re.compile(r"[0-9]{12}\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com(\.cn)?/.+")
_ANSWER = {"Content-Type": "application/x-amz-json-1.1"}
_log = logging.getLogger(__name__)


class SageMakerFront:
    """Answers SageMaker's API and runs its training jobs.

    Args:
        app: Moto's WSGI application.
        store: Where jobs are kept.
        folder: Where jobs get their folders.
        endpoint: URL of the AWS services.
        account: Account id.
        region: Region.
        log: Takes the jobs' lines.

    Attributes:
        roles: The stack's roles by ARN; a job's must be one that SageMaker may assume.
    """

    def __init__(
        self,
        app: WsgiApp,
        store: StateStore,
        folder: Path,
        endpoint: str,
        account: str,
        region: str,
        log: Callable[[LogRecord], None],
    ) -> None:
        self._app, self._store, self._folder, self._log = app, store, folder, log
        self._endpoint, self._account, self._region = endpoint, account, region
        self._lock = threading.RLock()
        self._running: dict[str, JobProcess] = {}
        self.roles: Mapping[str, RolePolicies] = {}

    @property
    def _backend(self) -> SageMakerModelBackend:
        return sagemaker_backends[self._account][self._region]

    def answer(self, request: AwsRequest) -> AwsResponse:
        """Answer a request to SageMaker."""
        if request.operation not in OPERATIONS:
            return call(self._app, request.environ)
        problems = request_problems("sagemaker", request.operation, request.json)
        if problems:
            count = f"{len(problems)} validation error{'s' * (len(problems) > 1)} detected"
            return error_response(request, "ValidationException", f"{count}: {'; '.join(problems)}")
        if request.operation == "CreateTrainingJob":
            return self._create(request)
        if self._backend.training_jobs.get(request.json["TrainingJobName"]) is None:
            return error_response(request, "ValidationException", "Requested resource not found.")
        if request.operation == "StopTrainingJob":
            return self._stop(request)
        return call(self._app, request.environ)

    def running(self, name: str) -> JobProcess | None:
        """A job that is under way."""
        with self._lock:
            return self._running.get(name)

    def restore(self) -> int:
        """Give moto the jobs that are kept; returns how many. Those that were under way have failed."""
        kept: dict[str, Any] = self._store.setting(_SETTING) or {}
        for record in kept.values():
            self._record_in_moto(record["request"])
            if record["status"] in ("InProgress", "Stopping"):
                record |= {"status": "Failed", "secondary": "Failed", "reason": LOST}
            self._show(record)
        self._store.set_setting(_SETTING, kept)
        return len(kept)

    def stop(self) -> None:
        """End every job: the cloud ends. They count as lost when it starts again."""
        with self._lock:
            running = list(self._running.values())
            self._running.clear()
        for job in running:
            job.stop()

    def _create(self, request: AwsRequest) -> AwsResponse:
        wanted = request.json
        name = wanted["TrainingJobName"]
        image = str(wanted["AlgorithmSpecification"].get("TrainingImage", ""))
        if not _IMAGE.fullmatch(image):
            message = f"Invalid image URI {image}. Please provide a valid Amazon Elastic Container Registry path"
            return error_response(request, "ValidationException", message)
        role = self.roles.get(wanted["RoleArn"])
        if role is None or _PRINCIPAL not in role.principals:
            message = f"Could not assume role {wanted['RoleArn']}. Please ensure that the role exists and allows "
            return error_response(request, "ValidationException", f"{message}principal '{_PRINCIPAL}' to assume it.")
        with self._lock:
            if name in self._backend.training_jobs:
                arn = self._backend.training_jobs[name].arn
                return error_response(request, "ResourceInUse", f"Training job names must be unique: {arn} exists.")
            response = call(self._app, request.environ)
            if not response.ok:
                return response
            record = {
                "request": wanted,
                "status": "InProgress",
                "secondary": "Starting",
                "reason": "",
                "started": _now(),
            }
            self._keep(record)
            job = JobProcess(
                request=wanted,
                folder=self._folder / name,
                credentials=credentials_for(wanted["RoleArn"]),
                endpoint=self._endpoint,
                region=self._region,
                log=self._log,
                tell=lambda status, secondary: self._tell(record, status, secondary),
            )
            self._running[name] = job
        threading.Thread(target=self._run, args=[job, record], name=f"job-{name}", daemon=True).start()
        return response

    def _tell(self, record: Mapping[str, Any], status: str, secondary: str) -> None:
        """Keep how far a job is; nothing once the cloud ends, since the next one says what became of it."""
        with self._lock:
            if record["request"]["TrainingJobName"] in self._running:
                self._keep({**record, "status": status, "secondary": secondary})

    def _run(self, job: JobProcess, record: dict[str, Any]) -> None:
        ended = {"status": "Completed", "secondary": "Completed", "reason": ""}
        try:
            job.run()
        except JobEnded as how:
            secondary = str(how) if how.status == "Stopped" and str(how) else how.status
            ended = {
                "status": how.status,
                "secondary": secondary,
                "reason": "" if how.status == "Stopped" else str(how),
            }
        except Exception as error:  # noqa: BLE001 - a job ends in a state, whatever broke
            _log.exception("Training job %s broke inside the embedded cloud", job.name)
            ended = {"status": "Failed", "secondary": "Failed", "reason": f"InternalServerError: {error}"}
        with self._lock:
            if self._running.pop(job.name, None) is None:
                return  # the cloud ends: the next one tells that the job is lost
            self._keep(record | ended | {"ended": _now()})
        shutil.rmtree(job.folder, ignore_errors=True)

    def _stop(self, request: AwsRequest) -> AwsResponse:
        name = request.json["TrainingJobName"]
        job = self.running(name)
        if job is None:
            status = self._backend.training_jobs[name].training_job_status
            message = f"The request was rejected because the training job is in status {status}."
            return error_response(request, "ValidationException", message)
        job.stop()
        self._backend.training_jobs[name].training_job_status = "Stopping"
        return bytes_response(200, b"", _ANSWER)

    def _record_in_moto(self, wanted: Mapping[str, Any]) -> None:
        """What moto's own handler does with a request."""
        fields = {
            "training_job_name": "TrainingJobName",
            "hyper_parameters": "HyperParameters",
            "algorithm_specification": "AlgorithmSpecification",
            "role_arn": "RoleArn",
            "input_data_config": "InputDataConfig",
            "output_data_config": "OutputDataConfig",
            "resource_config": "ResourceConfig",
            "vpc_config": "VpcConfig",
            "stopping_condition": "StoppingCondition",
            "tags": "Tags",
            "enable_network_isolation": "EnableNetworkIsolation",
            "enable_inter_container_traffic_encryption": "EnableInterContainerTrafficEncryption",
            "enable_managed_spot_training": "EnableManagedSpotTraining",
            "checkpoint_config": "CheckpointConfig",
            "debug_hook_config": "DebugHookConfig",
            "debug_rule_configurations": "DebugRuleConfigurations",
            "tensor_board_output_config": "TensorBoardOutputConfig",
            "experiment_config": "ExperimentConfig",
        }
        copy = json.loads(json.dumps(wanted))
        self._backend.create_training_job(**{ours: copy.get(theirs) for ours, theirs in fields.items()})

    def _keep(self, record: dict[str, Any]) -> None:
        """Write a job down and show it, in this order."""
        with self._lock:
            kept = self._store.setting(_SETTING) or {}
            kept[record["request"]["TrainingJobName"]] = record
            self._store.set_setting(_SETTING, kept)
            self._show(record)

    def _show(self, record: Mapping[str, Any]) -> None:
        """Make moto's record of a job say how it is."""
        job: FakeTrainingJob = self._backend.training_jobs[record["request"]["TrainingJobName"]]
        started, ended = datetime.fromtimestamp(record["started"], UTC), record.get("ended")
        job.training_job_status, job.secondary_status = record["status"], record["secondary"]
        job.creation_time = job.training_start_time = started
        job.last_modified_time = datetime.fromtimestamp(ended or _now(), UTC)
        job.training_end_time = datetime.fromtimestamp(ended, UTC) if ended else None  # type: ignore[assignment]
        job.secondary_status_transitions = [{"Status": record["secondary"], "StartTime": started}]
        job.failure_reason = record["reason"] or None  # type: ignore[attr-defined]  # moto shows what is there
        seconds = max(1, round((ended or _now()) - record["started"]))
        job.training_time_in_seconds = job.billable_time_in_seconds = seconds  # type: ignore[attr-defined]
        if record["status"] != "Completed":
            job.final_metric_data_list = []


def _now() -> float:
    return datetime.now(UTC).timestamp()
