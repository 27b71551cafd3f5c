"""Step Functions' executions that outlive the process: recorded before they start, resumed when they hadn't finished.

AWS's rules for names (https://docs.aws.amazon.com/step-functions/latest/apireference/API_StartExecution.html): the same
name and input while it runs is the same execution; the same name otherwise is `ExecutionAlreadyExists`.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from typing import Any

from moto.stepfunctions.parser.models import StepFunctionsParserBackend, stepfunctions_parser_backends

from shoal.local import limits
from shoal.local.aws_request import AwsRequest
from shoal.local.aws_response import AwsResponse, WsgiApp, bytes_response, call, error_response
from shoal.local.state import StateStore, dump

_RUNNING = "RUNNING"
_KEPT_FINISHED = 50
_PERIOD_SECONDS = 0.1
_OPERATIONS = {"StartExecution", "DescribeExecution", "ListExecutions", "StopExecution"}
_log = logging.getLogger(__name__)
Record = Any  # moto's state machine or execution, or a row: none has a type to name


class ExecutionService:
    """Answers Step Functions' execution API from records, and lets moto's interpreter run them.

    Args:
        store: Where executions are kept.
        app: Moto's WSGI application.
        account: Account id.
        region: Region.
    """

    def __init__(self, store: StateStore, app: WsgiApp, account: str, region: str) -> None:
        self._store = store
        self._app = app
        self._account, self._region = account, region
        self._lock = threading.RLock()
        self._running: set[str] = set()
        self._stopped = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="executions", daemon=True)

    @property
    def _backend(self) -> StepFunctionsParserBackend:
        return stepfunctions_parser_backends[self._account][self._region]

    def start(self) -> None:
        """Watch executions and record their end."""
        self._watcher.start()

    def stop(self) -> None:
        """Stop watching; executions that still run are resumed at the next start."""
        self._stopped.set()
        if self._watcher.is_alive():
            self._watcher.join(timeout=2)

    def handles(self, operation: str) -> bool:
        """Whether `answer` answers an operation."""
        return operation in _OPERATIONS

    def answer(self, request: AwsRequest) -> AwsResponse:
        """Answer one of the operations that `handles` names."""
        if request.operation == "StartExecution":
            return self._start(request)
        if request.operation == "StopExecution":
            response = call(self._app, request.environ)
            self.record_finished(wait_for=str(request.json.get("executionArn", "")))
            return response
        self.record_finished()
        if request.operation == "DescribeExecution":
            return self._describe(request)
        return self._list(request)

    def resume(self) -> list[str]:
        """Start every execution again that hadn't finished, under its name and with its input; returns their ARNs."""
        resumed = []
        for row in self._store.rows("SELECT * FROM executions WHERE status = ? ORDER BY started", _RUNNING):
            try:
                self._backend.start_execution(row["machine"], row["name"], row["input"])
            except Exception as error:  # noqa: BLE001 - one machine that is gone mustn't keep the cloud down
                _log.warning("Execution %s can't be resumed: %s", row["arn"], error)
                record = {"error": "States.Runtime", "cause": f"The execution couldn't be resumed: {error}"}
                self._finish(row["arn"], "ABORTED", record | {"stopDate": time.time()})
                continue
            with self._lock:
                self._running.add(row["arn"])
            resumed.append(row["arn"])
        return resumed

    def _start(self, request: AwsRequest) -> AwsResponse:
        parameters = dict(request.json)
        text = parameters.get("input") or "{}"
        refused = limits.check_execution_input(text)
        if refused is not None:
            return error_response(request, refused.code, refused.message)
        machine = str(parameters.get("stateMachineArn", ""))
        name = str(parameters.get("name") or uuid.uuid4())
        arn = f"{machine.replace(':stateMachine:', ':execution:')}:{name}"
        with self._lock:
            known = self._store.rows("SELECT * FROM executions WHERE arn = ?", arn)
            if known:
                self.record_finished()
                known = self._store.rows("SELECT * FROM executions WHERE arn = ?", arn)
                if known[0]["status"] == _RUNNING and known[0]["input"] == text:
                    return _json({"executionArn": arn, "startDate": known[0]["started"]})
                return error_response(request, "ExecutionAlreadyExists", f"Execution Already Exists: '{arn}'")
            with self._store.transaction() as db:
                db.execute(
                    "INSERT INTO executions VALUES(?, ?, ?, ?, ?, ?, ?)",
                    (arn, machine, name, _RUNNING, time.time(), text, "{}"),
                )
            request.replace_body(json.dumps(parameters | {"name": name, "input": text}).encode())
            response = call(self._app, request.environ)
            if response.ok:
                self._running.add(arn)
            else:
                with self._store.transaction() as db:
                    db.execute("DELETE FROM executions WHERE arn = ?", (arn,))
            return response

    def _describe(self, request: AwsRequest) -> AwsResponse:
        arn = str(request.json.get("executionArn", ""))
        rows = self._store.rows("SELECT * FROM executions WHERE arn = ?", arn)
        if not rows:
            return error_response(request, "ExecutionDoesNotExist", f"Execution Does Not Exist: '{arn}'")
        row = rows[0]
        answer = _item(row) | {"input": row["input"], "inputDetails": {"included": True}}
        record = json.loads(row["record"])
        answer |= {key: record[key] for key in ("output", "error", "cause") if record.get(key) is not None}
        if "output" in answer:
            answer["outputDetails"] = {"included": True}
        return _json(answer)

    def _list(self, request: AwsRequest) -> AwsResponse:
        parameters = request.json
        machine = str(parameters.get("stateMachineArn", ""))
        if not any(known.arn == machine for known in self._backend.state_machines):
            return error_response(request, "StateMachineDoesNotExist", f"State Machine Does Not Exist: '{machine}'")
        offset = int(parameters.get("nextToken") or 0)
        count = min(int(parameters.get("maxResults") or 100), 1000)
        status = parameters.get("statusFilter")
        rows = self._store.rows(
            "SELECT * FROM executions WHERE machine = ? AND (? IS NULL OR status = ?) "
            "ORDER BY started DESC, arn LIMIT ? OFFSET ?",
            machine, status, status, count + 1, offset,
        )  # fmt: skip
        answer: dict[str, Any] = {"executions": [_item(row) for row in rows[:count]]}
        if len(rows) > count:
            answer["nextToken"] = str(offset + count)
        return _json(answer)

    def _watch(self) -> None:
        while not self._stopped.wait(_PERIOD_SECONDS):
            try:
                self.record_finished()
            except Exception:  # noqa: BLE001 - the watcher must outlive one bad moment
                _log.exception("Recording finished executions failed; it is tried again.")

    def record_finished(self, wait_for: str = "") -> None:
        """Record every execution that has ended; with `wait_for`, wait up to 2 s for that one to end."""
        deadline = time.monotonic() + 2
        while True:
            with self._lock:
                for arn in list(self._running):
                    self._record_if_finished(arn)
                if wait_for not in self._running or time.monotonic() > deadline:
                    return
            time.sleep(0.02)

    def _record_if_finished(self, arn: str) -> None:
        machine = self._machine_of(arn)
        execution = next((each for each in machine.executions if each.execution_arn == arn), None) if machine else None
        if execution is None or not _settled(execution):
            return
        record: dict[str, Any] = {"stopDate": execution.stop_date.timestamp()}
        if execution.status == "SUCCEEDED":
            record["output"] = json.dumps(execution.output, separators=(",", ":"))
        record |= {"error": execution.error, "cause": execution.cause}
        self._finish(arn, execution.status, record)
        finished = [each for each in machine.executions if each.status != _RUNNING]
        for old in finished[:-_KEPT_FINISHED]:  # moto never frees one; older ones are answered from their records
            machine.executions.remove(old)

    def _machine_of(self, arn: str) -> Record:
        name = arn.split(":")[6]
        return next((machine for machine in self._backend.state_machines if machine.name == name), None)

    def _finish(self, arn: str, status: str, record: dict[str, Any]) -> None:
        with self._store.transaction() as db:
            db.execute("UPDATE executions SET status = ?, record = ? WHERE arn = ?", (status, dump(record), arn))
        with self._lock:
            self._running.discard(arn)


def _settled(execution: Record) -> bool:
    """Whether moto has written an execution's end down; it sets the status a moment before output and error."""
    if execution.stop_date is None or execution.status == _RUNNING:
        return False
    if execution.output is not None or execution.error is not None or execution.status == "ABORTED":
        return True
    return bool(time.time() - execution.stop_date.timestamp() > 1)


def _item(row: Record) -> dict[str, Any]:
    item = {
        "executionArn": row["arn"],
        "stateMachineArn": row["machine"],
        "name": row["name"],
        "status": row["status"],
        "startDate": row["started"],
    }
    stopped = json.loads(row["record"]).get("stopDate")
    return item | ({"stopDate": stopped} if stopped is not None else {})


def _json(value: dict[str, Any]) -> AwsResponse:
    return bytes_response(200, json.dumps(value).encode(), {"Content-Type": "application/x-amz-json-1.0"})
