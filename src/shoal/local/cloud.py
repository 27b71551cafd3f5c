"""One embedded cloud, put together: services, state, workers, gateway; deployed, restored, resumed."""

from __future__ import annotations

import json
import logging
import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from moto.secretsmanager.models import secretsmanager_backends

from shoal.local.alarms import AlarmClock
from shoal.local.cloud_state import CloudState
from shoal.local.compute.service import LambdaService
from shoal.local.compute.spec import FailedEvent, FunctionSpec, LogRecord
from shoal.local.delivery import EventDelivery
from shoal.local.executions import ExecutionService
from shoal.local.faults import VARIABLE as FAULTS_VARIABLE
from shoal.local.faults import parse_faults
from shoal.local.gateway import HttpGateway
from shoal.local.lambda_api import LambdaApi
from shoal.local.logs import LogCollector
from shoal.local.metrics import MetricCollector
from shoal.local.middleware import Middleware
from shoal.local.reload import CodeWatcher
from shoal.local.s3_front import S3Front
from shoal.local.sagemaker.front import SageMakerFront
from shoal.local.schedules import ScheduleTimer
from shoal.local.services import HOST, Server, listen, moto_application
from shoal.local.streaming.kinesis_front import KinesisFront
from shoal.local.streaming.service import MappingService
from shoal.local.xray import XRayDaemon

if TYPE_CHECKING:
    from shoal.local.deploy.deployment import Deployment

ACCOUNT = "123456789012"
REGION = "us-east-1"
IDLE_SECONDS = 300.0
_log = logging.getLogger(__name__)

Deployer = Callable[[str, str, Mapping[str, str]], "Deployment"]
"""Deploys a template: (endpoint, API URL, kept secrets by name) to what was made."""


@dataclass(frozen=True)
class CloudSettings:
    """Where a cloud lives and listens.

    Attributes:
        home: The `.shoal` folder.
        aws: Listens at the AWS endpoint's port; the cloud closes it.
        api: Listens at the first HTTP API's port; the cloud closes it.
        workers: Most workers of one function: twice the cores, or 4. More would only start up and wait for a core.
        workers_total: Most workers together.
    """

    home: Path
    aws: socket.socket
    api: socket.socket
    workers: int = field(default_factory=lambda: max(4, 2 * (os.cpu_count() or 1)))
    workers_total: int = 32


class Cloud:
    """A cloud in this process.

    Args:
        settings: Where it lives and listens.
        deployer: Deploys the template.
        follow: Gets every function's log record.

    Attributes:
        port: Port of the AWS endpoint.
        api_port: Port of the first HTTP API.
        endpoint: URL of the AWS endpoint.
        api_url: URL of the first HTTP API.
    """

    def __init__(
        self, settings: CloudSettings, deployer: Deployer, follow: Callable[[LogRecord], None] | None = None
    ) -> None:
        self.settings = settings
        self.port, self.api_port = (listener.getsockname()[1] for listener in (settings.aws, settings.api))
        self.endpoint = f"http://{HOST}:{self.port}"
        self.api_url = f"http://{HOST}:{self.api_port}"
        self._deployer = deployer
        self.state = CloudState(settings.home / "state", ACCOUNT, REGION)
        collected = MetricCollector(ACCOUNT, REGION)
        self._logs = LogCollector(settings.home / "logs", ACCOUNT, REGION, follow=follow, metrics=collected.add)
        self.service = LambdaService(
            log_sink=self._logs.add,
            pending=self.state.pending,
            on_failure=self._send_failed_event,
            max_workers_per_function=settings.workers,
            max_workers_total=settings.workers_total,
            idle_seconds=IDLE_SECONDS,
            scratch=settings.home / "tmp",
        )
        app = moto_application(self.port)
        self._faults = faults = parse_faults(os.environ.get(FAULTS_VARIABLE, ""))
        self._delivery = EventDelivery(self.state.pending, self.service, faults)
        kinesis = KinesisFront(app, self.state.records, ACCOUNT, REGION, faults.refuse_records, faults.seed)
        self._executions = ExecutionService(self.state.store, app, ACCOUNT, REGION)
        self._lambda_api = LambdaApi(self.service)
        s3 = S3Front(app, self.state, self._delivery)
        self._jobs = SageMakerFront(
            app,
            self.state.store,
            settings.home / "tmp/sagemaker",
            self.endpoint,
            ACCOUNT,
            REGION,
            self._logs.add,
        )
        self._middleware = Middleware(app, self.state, s3, self._lambda_api, self._executions, kinesis, self._jobs)
        self._server = Server(self._middleware, settings.aws)
        self._xray = XRayDaemon(self.endpoint)
        self._gateways: list[HttpGateway] = []
        self._watcher: CodeWatcher | None = None
        self._alarms = AlarmClock(self.service, ACCOUNT, REGION)
        self._mappings: MappingService | None = None
        self.timer: ScheduleTimer | None = None
        self.deployment: Deployment | None = None

    def start(self) -> Deployment:
        """Start everything; returns when the cloud is ready. Raises what the deployment raises."""
        moments = [("begin", time.monotonic())]
        self._server.start()
        self._xray.start()
        self._logs.start()
        deployment = self._deployer(self.endpoint, self.api_url, self.state.secrets.values())
        moments.append(("deploy", time.monotonic()))
        counts = self.state.restore() | {"training jobs": self._jobs.restore()}
        self._jobs.roles = deployment.roles
        self._middleware.open()
        moments.append(("restore", time.monotonic()))
        self._run(deployment)
        moments.append(("workers", time.monotonic()))
        resumed = self._executions.resume()
        self._executions.start()
        if self._mappings is not None:
            self._mappings.start()
        spans = ", ".join(f"{name} {after - before:.2f} s" for (_, before), (name, after) in pairwise(moments))
        _log.info("Restored %s; resumed %d executions; %s.", json.dumps(counts), len(resumed), spans)
        self.deployment = deployment
        return deployment

    def _run(self, deployment: Deployment) -> None:
        traced = {"AWS_XRAY_DAEMON_ADDRESS": self._xray.address}
        specs = [replace(spec, environment=traced | spec.environment) for spec in deployment.functions]
        for function in specs:
            self.service.deploy(function)
        self._lambda_api.set_functions(specs)
        self._middleware.authorizer = deployment.authorizer()
        self._delivery.notifications = tuple(deployment.notifications)
        self.service.start()
        self.timer = ScheduleTimer(
            deployment.schedules, self.service, self.state.store, ACCOUNT, REGION, self._faults.schedule_period
        )
        self.timer.start()
        self._alarms.start()
        self._mappings = MappingService(
            deployment.mappings,
            {spec.name: spec for spec in specs},
            self.service,
            self.state.records,
            self._middleware.queues,
            ACCOUNT,
            REGION,
        )
        self._watcher = CodeWatcher(specs, self.service.deploy)
        self._watcher.start()
        for offset, spec in enumerate(deployment.http_apis):
            listener = listen(self.api_port + offset) if offset else self.settings.api
            gateway = HttpGateway(spec, self.service, listener, log_sink=self._logs.add)
            gateway.start()
            self._gateways.append(gateway)

    def stop(self) -> None:
        """Stop everything, in the order that loses nothing."""
        if self._mappings is not None:
            self._mappings.stop()
        if self.timer is not None:
            self.timer.stop()
        self._alarms.stop()
        if self._watcher is not None:
            self._watcher.stop()
        for gateway in self._gateways:
            gateway.close()
        self._executions.stop()
        self._jobs.stop()
        self._server.stop()
        self.service.close()
        self._xray.stop()
        self._logs.stop()
        self.state.close()

    def token(self, secret_arn: str) -> str:
        """The value of the secret that holds the HTTP API's bearer token; empty when there is none."""
        secret = secretsmanager_backends[ACCOUNT][REGION].secrets.get(secret_arn) if secret_arn else None
        return self.state.secrets.values().get(secret.name, "") if secret else ""

    def _send_failed_event(self, spec: FunctionSpec, event: FailedEvent) -> None:
        """Put the record of an event that was given up into the function's on-failure queue."""
        if spec.on_failure is not None:
            self._middleware.queues.send(spec.on_failure.rpartition(":")[2], json.dumps(event.record(spec)))
