"""SageMaker of the embedded cloud: what is refused, how a job's program runs, and what a restart makes of it."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import tarfile
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.core import set_initial_no_auth_action_count  # noqa: F401 - loads moto's core before its server
from moto.sagemaker.models import sagemaker_backends
from moto.server import ThreadedMotoServer
from werkzeug.test import EnvironBuilder

from shoal.local.aws_request import AwsRequest, read_request
from shoal.local.cloud_state import CloudState
from shoal.local.compute.spec import Credentials, LogRecord
from shoal.local.permissions import RolePolicies
from shoal.local.sagemaker import interpreter, running
from shoal.local.sagemaker.front import LOST, SageMakerFront
from shoal.local.sagemaker.interpreter import NoInterpreter, interpreter_for
from shoal.local.sagemaker.layout import Layout
from shoal.local.sagemaker.running import JobEnded, JobProcess
from shoal.local.services import moto_application

ACCOUNT, REGION = "123456789012", "us-east-1"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/job"
IMAGE = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/mine:1"
KEYS = Credentials("SHOALABCDEFGHIJKLMNO", "secret")
SIGNED = f"AWS4-HMAC-SHA256 Credential=USER/20261121/{REGION}/sagemaker/aws4_request, SignedHeaders=host, Signature=0"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    client = s3(f"http://{host}:{port}")
    client.create_bucket(Bucket="artifacts")
    yield f"http://{host}:{port}"
    server.stop()


@cache
def s3(endpoint: str) -> Any:
    session = boto3.Session(KEYS.access_key, KEYS.secret_key, region_name=REGION)
    return session.client("s3", endpoint_url=endpoint)


def request_of(program: str, endpoint: str, **changes: Any) -> dict[str, Any]:
    """A job whose program is this text; its code and a shard lie in S3."""
    name = changes.pop("name", "job-1")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        entry = tarfile.TarInfo("train.py")
        entry.size = len(program.encode())
        tar.addfile(entry, io.BytesIO(program.encode()))
    client = s3(endpoint)
    client.put_object(Bucket="artifacts", Key=f"{name}/code.tar.gz", Body=buffer.getvalue())
    client.put_object(Bucket="artifacts", Key="data/train/shard-00000", Body=b"shard")
    code = json.dumps(f"s3://artifacts/{name}/code.tar.gz")
    source = {"S3DataType": "S3Prefix", "S3Uri": "s3://artifacts/data/train/"}
    return {
        "TrainingJobName": name,
        "RoleArn": ROLE,
        "AlgorithmSpecification": {"TrainingImage": IMAGE, "TrainingInputMode": "File"},
        "HyperParameters": {"sagemaker_program": '"train.py"', "sagemaker_submit_directory": code, "epochs": "5"},
        "Environment": {"MINE": "yes"},
        "InputDataConfig": [{"ChannelName": "train", "DataSource": {"S3DataSource": source}}],
        "OutputDataConfig": {"S3OutputPath": f"s3://artifacts/{name}"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 30},
        "StoppingCondition": {"MaxRuntimeInSeconds": 60},
        "CheckpointConfig": {"S3Uri": f"s3://artifacts/{name}/checkpoints"},
    } | changes


def process(request: dict[str, Any], endpoint: str, folder: Path) -> tuple[JobProcess, list[str], list[str]]:
    """A job, its lines and what it tells."""
    lines: list[str] = []
    told: list[str] = []

    def log(record: LogRecord) -> None:
        lines.append(record.message)

    job = JobProcess(request, folder, KEYS, endpoint, REGION, log, lambda status, secondary: told.append(secondary))
    return job, lines, told


SLEEP = "import time\ntime.sleep(60)"
# ── The program ───────────────────────────────────────────────────────────────────────────────────────────────────────

WHOLE = """
import json, os, pathlib, sys
folder = pathlib.Path(os.environ["SM_CHANNEL_TRAIN"])
config = pathlib.Path(os.environ["SM_INPUT_CONFIG_DIR"])
print(sys.argv[1:], os.environ["MINE"], os.environ["SM_HP_EPOCHS"], os.environ["SM_CURRENT_HOST"])
print(sorted(path.name for path in config.iterdir()), (folder / "shard-00000").read_bytes())
pathlib.Path(os.environ["SM_MODEL_DIR"], "model.onnx").write_bytes(b"model")
pathlib.Path(os.environ["SM_OUTPUT_DATA_DIR"], "plot.txt").write_text("plot")
kept = pathlib.Path(os.environ["SM_CHECKPOINT_DIR"], "step.txt")
print("before:", kept.read_text() if kept.exists() else "nothing")
kept.write_text("17")
"""


def test_a_program_finds_sagemakers_layout_and_what_it_leaves_is_kept(endpoint: str, tmp_path: Path) -> None:
    for before in ("nothing", "17"):
        job, lines, told = process(request_of(WHOLE, endpoint, name="whole"), endpoint, tmp_path / before)
        job.run()
        assert told == ["Downloading", "Training", "Uploading"]
        assert lines == [
            "['--epochs', '5'] yes 5 algo-1",
            "['hyperparameters.json', 'inputdataconfig.json', 'resourceconfig.json'] b'shard'",
            f"before: {before}",
        ]
    client = s3(endpoint)
    model = client.get_object(Bucket="artifacts", Key="whole/whole/output/model.tar.gz")["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(model)) as tar:
        assert tar.getnames() == ["model.onnx"]
    assert client.head_object(Bucket="artifacts", Key="whole/whole/output/output.tar.gz")


@pytest.mark.parametrize(
    ("program", "changes", "status", "reason"),
    [
        ("raise SystemExit(3)", {}, "Failed", "AlgorithmError: the program ended with exit code 3"),
        (
            "import os, pathlib\npathlib.Path(os.environ['SM_OUTPUT_DIR'], 'failure').write_text('bad')\nos.abort()",
            {},
            "Failed",
            "AlgorithmError: bad",
        ),
        (
            SLEEP,
            {"StoppingCondition": {"MaxRuntimeInSeconds": 1}},
            "Stopped",
            "MaxRuntimeExceeded",
        ),
        (
            "",
            {
                "InputDataConfig": [
                    {"ChannelName": "x", "DataSource": {"S3DataSource": {"S3Uri": "s3://artifacts/no/"}}}
                ]
            },
            "Failed",
            "ClientError: Data download failed: No S3 objects found under S3 URL 's3://artifacts/no/'",
        ),
        ("", {"OutputDataConfig": {"S3OutputPath": "s3://nowhere/x"}}, "Failed", "ClientError: .*NoSuchBucket"),
    ],
)
def test_a_job_that_doesnt_end_well_tells_why(
    program: str, changes: dict[str, Any], status: str, reason: str, endpoint: str, tmp_path: Path
) -> None:
    job, _, _ = process(request_of(program, endpoint, **changes), endpoint, tmp_path)
    with pytest.raises(JobEnded, match=reason) as caught:
        job.run()
    assert caught.value.status == status


def test_spare_capacity_that_is_taken_back_starts_the_program_again(endpoint: str, tmp_path: Path) -> None:
    program = """
import os, pathlib, signal
seen = pathlib.Path(os.environ["SM_CHECKPOINT_DIR"], "seen")
if not seen.exists():
    seen.write_text("once")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    request = request_of(program, endpoint, name="spot")
    job, _, told = process(request | {"EnableManagedSpotTraining": True}, endpoint, tmp_path / "spot")
    job.run()
    assert told == ["Downloading", "Training", "Interrupted", "Training", "Uploading"]
    job, _, _ = process(request_of(program, endpoint, name="demand"), endpoint, tmp_path / "demand")
    with pytest.raises(JobEnded, match=f"signal {signal.SIGKILL.value}"):
        job.run()


def test_every_host_runs_the_program_and_knows_the_others(endpoint: str, tmp_path: Path) -> None:
    program = "import os\nprint(os.environ['SM_CURRENT_HOST'], os.environ['SM_HOSTS'], os.environ['MASTER_ADDR'])"
    resources = {"InstanceType": "ml.m5.large", "InstanceCount": 2, "VolumeSizeInGB": 30}
    job, lines, _ = process(request_of(program, endpoint, ResourceConfig=resources), endpoint, tmp_path)
    job.run()
    assert sorted(lines) == [f'algo-{n} ["algo-1", "algo-2"] 127.0.0.1' for n in (1, 2)]


def test_code_that_would_land_elsewhere_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.addfile(tarfile.TarInfo("../outside.py"))
    layout = Layout(tmp_path, {"TrainingJobName": "x", "ResourceConfig": {"InstanceType": "m"}}, "algo-1", ["algo-1"])
    with pytest.raises(tarfile.OutsideDestinationError):
        layout.unpack_code(buffer.getvalue())


def test_pytorch_is_looked_for_and_told_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(interpreter.VARIABLE, raising=False)
    monkeypatch.setattr(interpreter, "find_spec", lambda name: None)
    assert interpreter_for(IMAGE) == Path(sys.executable)
    with pytest.raises(NoInterpreter, match="SHOAL_TORCH_PYTHON"):
        interpreter_for(IMAGE.replace("mine", "pytorch-training"))
    local = tmp_path / ".venv-torch/bin/python"
    local.parent.mkdir(parents=True)
    local.touch()
    assert interpreter_for(IMAGE.replace("mine", "pytorch-training")) == local
    monkeypatch.setenv(interpreter.VARIABLE, sys.executable)
    assert interpreter_for("pytorch") == Path(sys.executable)
    monkeypatch.setenv(interpreter.VARIABLE, "/nowhere")
    with pytest.raises(NoInterpreter, match="isn't there"):
        interpreter_for("pytorch")


# ── The API ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def state(tmp_path: Path) -> Iterator[CloudState]:
    kept = CloudState(tmp_path / "state", ACCOUNT, REGION)
    yield kept
    kept.close()


@pytest.fixture
def front(state: CloudState, tmp_path: Path, endpoint: str) -> Iterator[SageMakerFront]:
    yield made(state, tmp_path, endpoint)
    sagemaker_backends[ACCOUNT][REGION].training_jobs.clear()


def made(state: CloudState, folder: Path, endpoint: str) -> SageMakerFront:
    app = moto_application(int(endpoint.rpartition(":")[2]))
    front = SageMakerFront(app, state.store, folder / "jobs", endpoint, ACCOUNT, REGION, lambda record: None)
    front.roles = {ROLE: RolePolicies("job", ROLE, ("sagemaker.amazonaws.com",))}
    return front


def ask(front: SageMakerFront, operation: str, **body: Any) -> tuple[int, dict[str, Any]]:
    environ = EnvironBuilder(
        method="POST",
        path="/",
        base_url="http://127.0.0.1",
        data=json.dumps(body),
        content_type="application/x-amz-json-1.1",
        headers={"X-Amz-Target": f"SageMaker.{operation}", "Authorization": SIGNED},
    ).get_environ()
    request: AwsRequest = read_request(environ)
    answer = front.answer(request)
    return answer.status, json.loads(b"".join(answer.body) or b"{}")


def awaited(front: SageMakerFront, name: str, status: str) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    found: dict[str, Any] = {}
    while time.monotonic() < deadline:
        _, found = ask(front, "DescribeTrainingJob", TrainingJobName=name)
        if found["TrainingJobStatus"] == status:
            return found
        time.sleep(0.05)
    raise AssertionError(found)


def test_a_job_goes_through_moto_and_runs(front: SageMakerFront, endpoint: str) -> None:
    request = request_of("print('hello')", endpoint, name="api-1")
    status, answer = ask(front, "CreateTrainingJob", **request)
    assert (status, answer["TrainingJobArn"].rpartition(":")[2]) == (200, "training-job/api-1")
    status, refused = ask(front, "CreateTrainingJob", **request)
    assert (status, refused["__type"]) == (400, "ResourceInUse")
    found = awaited(front, "api-1", "Completed")
    assert found["BillableTimeInSeconds"] >= 1
    assert found["ModelArtifacts"]["S3ModelArtifacts"] == "s3://artifacts/api-1/api-1/output/model.tar.gz"
    assert found["ResourceConfig"]["InstanceType"] == "ml.m5.large"
    assert ask(front, "ListTrainingJobs")[0] == 200  # moto's own
    status, refused = ask(front, "StopTrainingJob", TrainingJobName="api-1")
    assert (status, "in status Completed" in refused["message"]) == (400, True)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"AlgorithmSpecification": {"TrainingImage": "mine:1", "TrainingInputMode": "File"}},
            "Invalid image URI mine:1",
        ),
        ({"RoleArn": f"arn:aws:iam::{ACCOUNT}:role/other"}, "Could not assume role"),
        (
            {"ResourceConfig": {"InstanceType": "ml.x.large", "InstanceCount": 1, "VolumeSizeInGB": 1}},
            "1 validation error detected: ResourceConfig.InstanceType is 'ml.x.large'",
        ),
        ({"TrainingJobName": "a_b"}, "TrainingJobName is 'a_b', which doesn't match"),
    ],
)
def test_what_aws_refuses_is_refused(
    changes: dict[str, Any], reason: str, front: SageMakerFront, endpoint: str
) -> None:
    status, answer = ask(front, "CreateTrainingJob", **(request_of("", endpoint) | changes))
    assert (status, answer["__type"]) == (400, "ValidationException")
    assert reason in answer["message"]
    assert ask(front, "DescribeTrainingJob", TrainingJobName="nothing")[1]["message"] == "Requested resource not found."


def test_a_job_is_stopped(front: SageMakerFront, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "_GRACE_SECONDS", 1.0)
    ask(front, "CreateTrainingJob", **request_of(SLEEP, endpoint, name="api-2"))
    deadline = time.monotonic() + 30
    while not ((job := front.running("api-2")) and job.processes) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert ask(front, "StopTrainingJob", TrainingJobName="api-2")[0] == 200
    assert awaited(front, "api-2", "Stopped")["SecondaryStatus"] == "Stopped"


def test_a_job_that_ran_when_the_cloud_ended_has_failed_in_the_next_one(
    front: SageMakerFront, state: CloudState, endpoint: str, tmp_path: Path
) -> None:
    ask(front, "CreateTrainingJob", **request_of("print(1)", endpoint, name="api-3"))
    awaited(front, "api-3", "Completed")
    ask(front, "CreateTrainingJob", **request_of(SLEEP, endpoint, name="api-4"))
    awaited(front, "api-4", "InProgress")
    front.stop()
    sagemaker_backends[ACCOUNT][REGION].training_jobs.clear()
    again = made(state, tmp_path, endpoint)
    assert again.restore() == 2
    assert ask(again, "DescribeTrainingJob", TrainingJobName="api-3")[1]["TrainingJobStatus"] == "Completed"
    lost = ask(again, "DescribeTrainingJob", TrainingJobName="api-4")[1]
    assert (lost["TrainingJobStatus"], lost["FailureReason"]) == ("Failed", LOST)
    assert os.environ["MOTO_PORT"]
