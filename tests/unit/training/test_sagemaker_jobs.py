"""A run as a SageMaker job: what is asked of AWS, checked against its model; what becomes of it; and the quote."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from shoal.local.sagemaker.validation import request_problems
from shoal_core.data.compute_config import ComputeConfig
from shoal_core.data.config import DatasetConfig, TrainingConfig, parse_config
from shoal_core.errors import BadConfig, BadModel, JobFailed, NotFound, ShoalError, TrainingDiverged
from shoal_core.keys import RunKeys, script_key
from shoal_core.registry.pricing import SAGEMAKER_INSTANCES
from shoal_core.training.following import JobDescription, follow_job, job_usage
from shoal_core.training.job_attempts import JobFailure, next_attempt, write_failure
from shoal_core.training.job_requests import LOOKS, job_name, job_to_create, program_archive, wait_after
from shoal_core.training.job_settings import JobOptions, JobSettings
from shoal_core.training.merging import merge_round
from shoal_core.training.quoted import quote_run
from shoal_core.training.quoting import speed_up
from shoal_core.training.requests import overridden
from shoal_core.training.rounds import read_manifest, read_settings, train_shard
from shoal_core.training.showing import shown_settings
from shoal_core.training.starting import start_training
from shoal_core.training.states import last_round, read_round
from tests.support.stores import MemoryStore
from tests.unit.training.datasets import DATASET, VERSION, blobs, commit, drawings, image_spec, lines, table_spec

ROLE = "arn:aws:iam::123456789012:role/shoal-TrainingJobRole"
JOBS = JobOptions(stack="shoal", region="us-east-1", instance="ml.g4dn.xlarge")
RUN = "tiny-v1"
SCRIPT = b"print('trained')\n"


def started(
    jobs: JobOptions | None = JOBS, compute: Any = "sagemaker", classes: int = 3, **training: Any
) -> MemoryStore:
    store, make = MemoryStore(), blobs if classes else lines
    splits = {"train": make(96), "validation": make(30, seed=1), "test": make(30, seed=2)}
    config = DatasetConfig(rounds=2, training=TrainingConfig(epochs=2, **training), compute=compute)
    commit(store, table_spec(classes=classes), splits, config=config)
    uploads = {script_key(DATASET, "train.py"): SCRIPT}

    def read(key: str) -> bytes:
        if key not in uploads:
            raise NotFound(key)
        return uploads[key]

    start_training(store, RUN, DATASET, VERSION, jobs=jobs, script=read)
    return store


def asked(store: MemoryStore, jobs: JobOptions = JOBS) -> dict[str, Any]:
    """What CreateTrainingJob is asked, with the role that the state machine adds."""
    settings = read_settings(store, RUN)
    created = job_to_create(store, settings, read_manifest(store, settings), jobs, "artifacts")
    return {**created["job"], "RoleArn": ROLE}


def ended(status: str, attempt: int = 1, **fields: Any) -> JobDescription:
    return JobDescription(TrainingJobName=job_name(JOBS, RUN, attempt), TrainingJobStatus=status, **fields)


# ── What is asked for ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_compute_is_a_word_or_fields():
    assert parse_config(b"compute: sagemaker").compute == ComputeConfig(service="sagemaker")
    given = parse_config(b"compute: {service: auto, instance: ml.g5.xlarge, count: 2, spot: true, hours: 1.5}").compute
    assert (given.instance, given.count, given.spot, given.hours) == ("ml.g5.xlarge", 2, True, 1.5)
    for bad in (b"compute: ec2", b"compute: {instance: g5.xlarge}", b"compute: {count: 17}", b"compute: {hours: 0}"):
        with pytest.raises(BadConfig, match=r"compute"):
            parse_config(bad)
    with pytest.raises(BadConfig, match=r"training\.script"):
        parse_config(b"training: {script: train.py}")
    changed = overridden(parse_config(b"compute: {instance: ml.g5.xlarge}"), {"compute": {"service": "sagemaker"}})
    assert (changed.compute.service, changed.compute.instance) == ("sagemaker", "ml.g5.xlarge")


@pytest.mark.parametrize("spot", [False, True])
@pytest.mark.parametrize("vpc", [False, True])
@pytest.mark.parametrize("key", [False, True])
def test_the_request_is_one_that_botocores_model_allows(spot, vpc, key):
    more: dict[str, Any] = {"spot": spot, "count": 2, "hours": 2, "instance": "ml.m5.large"}
    more |= {"subnets": ("subnet-0a",), "groups": ("sg-0a",)} if vpc else {}
    more |= {"key": "arn:aws:kms:us-east-1:123456789012:key/k"} if key else {}
    jobs = JOBS.model_copy(update=more)
    request = asked(started(jobs), jobs)
    assert request_problems("sagemaker", "CreateTrainingJob", request) == []
    assert request["StoppingCondition"] == {"MaxRuntimeInSeconds": 7200} | (
        {"MaxWaitTimeInSeconds": 14400} if spot else {}
    )
    assert ("VpcConfig" in request) is vpc
    assert ("VolumeKmsKeyId" in request["ResourceConfig"]) is ("KmsKeyId" in request["OutputDataConfig"]) is key
    assert request["EnableInterContainerTrafficEncryption"] is key
    assert request["CheckpointConfig"]["S3Uri"] == f"s3://artifacts/{RunKeys(RUN).job}/checkpoints"
    channels = {each["ChannelName"]: each["DataSource"]["S3DataSource"]["S3Uri"] for each in request["InputDataConfig"]}
    assert set(channels) == {"train", "validation"}
    given = {name: json.loads(value) for name, value in request["HyperParameters"].items()}
    assert given["sagemaker_submit_directory"] == f"s3://artifacts/{RunKeys(RUN).job_code}"


def test_the_models_own_refusals_name_the_field():
    request = asked(started())
    request["ResourceConfig"] |= {"InstanceType": "ml.nothing.large", "InstanceCount": "2"}
    request["StoppingCondition"]["MaxRuntimeInSeconds"] = 0
    request |= {"TrainingJobName": "under_score", "Unknown": 1}
    del request["OutputDataConfig"]
    problems = request_problems("sagemaker", "CreateTrainingJob", request)
    for part in (
        "OutputDataConfig is required",
        "TrainingJobName is 'under_score', which doesn't match",
        "ResourceConfig.InstanceType is 'ml.nothing.large', which isn't one of the",
        "ResourceConfig.InstanceCount is '2', not a integer",
        "StoppingCondition.MaxRuntimeInSeconds is 0; at least 1",
        "Unknown isn't known",
    ):
        assert any(part in problem for problem in problems), part
    assert len(problems) == 6
    assert request_problems("sagemaker", "StopTrainingJob", {"TrainingJobName": 3})


def test_disks_that_encrypt_themselves_get_no_key():
    jobs = JOBS.model_copy(update={"key": "arn:aws:kms:us-east-1:123456789012:key/k"})
    assert "VolumeKmsKeyId" not in asked(started(jobs), jobs)["ResourceConfig"]


def test_the_image_is_awss_for_the_region_or_the_stacks():
    store = started()
    assert asked(store)["AlgorithmSpecification"]["TrainingImage"].startswith(
        "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch-training:2.6.0-gpu-"
    )
    own = JOBS.model_copy(update={"image": "123456789012.dkr.ecr.eu-west-1.amazonaws.com/mine:1"})
    assert asked(store, own)["AlgorithmSpecification"]["TrainingImage"] == own.image
    with pytest.raises(BadConfig, match="isn't an image"):
        asked(store, JOBS.model_copy(update={"image": "mine:1"}))
    with pytest.raises(BadConfig, match="cn-north-1"):
        asked(store, JOBS.model_copy(update={"region": "cn-north-1"}))


def test_a_jobs_name_is_the_runs_and_the_attempts_and_short():
    names = {job_name(JOBS, run, 1) for run in ("a" * 64, "b" * 64, "Ünder_score.run-1")}
    names |= {job_name(JOBS.model_copy(update={"stack": "other"}), "a" * 64, 1), job_name(JOBS, "a" * 64, 2)}
    names.add(job_name(JOBS.model_copy(update={"stack": "s" * 30}), "a" * 64, 99))
    assert len(names) == 6
    for name in names:
        problems = request_problems("sagemaker", "StopTrainingJob", {"TrainingJobName": name})
        assert len(name) <= 63 and not problems


def test_all_looks_fit_the_history_of_one_execution():
    for hours, spot in ((24, False), (120, True), (0.1, False)):
        job = JobSettings(instance="ml.m5.large", count=1, spot=spot, hours=hours)
        seconds, looks = 0, 0
        while seconds < hours * 3600 * (2 if spot else 1):
            seconds += wait_after(looks, job)
            looks += 1
        assert looks <= 1.4 * LOOKS  # 14 events each, of 25,000
    assert wait_after(0, job) == 1


def test_the_program_is_this_very_code_and_the_same_bytes_each_time():
    data = program_archive()
    assert data == program_archive()
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        names = tar.getnames()
    assert {"train.py", "requirements.txt", "shoal_core/jobs/training.py", "shoal_core/errors.py"} <= set(names)
    assert all(name.endswith((".py", "requirements.txt")) for name in names)


def test_the_options_are_the_templates_json():
    text = '{"stack":"s","region":"r","image":"","instance":"ml.m5.large","count":2,"spot":true,"hours":3,"key":"",'
    options = JobOptions.parse(text + '"subnets":"subnet-1,subnet-2","groups":"","endpoint":""}')
    assert (options.subnets, options.groups, options.spot) == (("subnet-1", "subnet-2"), (), True)
    with pytest.raises(ShoalError, match="SHOAL_SAGEMAKER"):
        JobOptions.parse("[]")


# ── Settings ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_jobs_run_is_one_worker_and_says_what_it_costs():
    settings = read_settings(started(compute={"service": "sagemaker", "count": 3, "instance": "ml.g5.xlarge"}), RUN)
    assert (settings.workers, settings.local_batch_size) == (1, settings.batch_size)
    assert settings.job == JobSettings(instance="ml.g5.xlarge", count=3, spot=False, hours=24)
    assert "Lambda: about" in settings.reasons["compute"]
    assert "3 ml.g5.xlarge" in settings.reasons["compute"]
    on_lambda = read_settings(started(compute="lambda"), RUN)
    assert on_lambda.job is None
    assert "compute" not in on_lambda.reasons


def test_a_run_shows_where_it_trains():
    store = started(compute={"service": "sagemaker", "spot": True})
    settings = read_settings(store, RUN)
    shown = shown_settings(settings, read_manifest(store, settings))["compute"]
    assert (shown["service"], shown["spot"]) == ("sagemaker", True)


def test_a_stack_without_jobs_says_so():
    with pytest.raises(BadConfig, match="has no training jobs"):
        started(jobs=None)
    assert read_settings(started(jobs=None, compute="auto"), RUN).job is None


def test_a_script_is_pinned_by_its_content():
    store = started(script="train.py")
    job = read_settings(store, RUN).job
    assert job is not None
    assert (job.script, job.script_sha256) == ("train.py", hashlib.sha256(SCRIPT).hexdigest())
    with tarfile.open(fileobj=io.BytesIO(store.read(RunKeys(RUN).job_code))) as tar:
        assert tar.getnames() == ["train.py"]
    request = asked(store)
    assert [channel["ChannelName"] for channel in request["InputDataConfig"]] == [
        "train",
        "validation",
        "test",
        "manifest",
    ]
    assert json.loads(request["HyperParameters"]["epochs"]) == 2
    assert request_problems("sagemaker", "CreateTrainingJob", request) == []
    with pytest.raises(BadConfig, match=r"other\.py isn't in the uploads bucket"):
        started(script="other.py")


# ── What becomes of it ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_job_under_way_is_looked_at_again_and_its_use_is_told():
    store = started()
    job = ended("InProgress", ResourceConfig={"InstanceType": "ml.g4dn.xlarge", "InstanceCount": 2})
    following = follow_job(store, RUN, job, 60)
    assert (following.finished, following.again, following.looks, following.wait_seconds) == (False, False, 61, 3)
    used = job_usage(job.model_copy(update={"BillableTimeInSeconds": 1800}))
    assert used["cost_usd"] == pytest.approx(SAGEMAKER_INSTANCES["ml.g4dn.xlarge"].hour)
    assert job_usage(job.model_copy(update={"ResourceConfig": {"InstanceType": "ml.new.large"}}))["cost_usd"] is None


def test_a_job_that_aws_failed_is_tried_again_and_not_for_ever():
    store = started()
    lost = {"FailureReason": "InternalServerError: We encountered an internal error."}
    for attempt in (1, 2):
        assert next_attempt(store, RUN) == attempt
        assert follow_job(store, RUN, ended("Failed", attempt, **lost), 3).again
        assert follow_job(store, RUN, ended("Failed", attempt, **lost), 3).again  # a repeated look
        assert asked(store)["TrainingJobName"] == job_name(JOBS, RUN, attempt + 1)
    with pytest.raises(JobFailed, match="InternalServerError"):
        follow_job(store, RUN, ended("Failed", 3, **lost), 3)
    # A look at an earlier attempt that comes late goes on with the one that followed.
    assert follow_job(store, RUN, ended("Failed", 1, **lost), 3).again


@pytest.mark.parametrize(
    ("status", "fields", "reason"),
    [
        ("Failed", {"FailureReason": "AlgorithmError: exit code 1"}, "AlgorithmError: exit code 1"),
        ("Failed", {"FailureReason": "ClientError: Cannot pull image"}, "Cannot pull image"),
        ("Stopped", {"SecondaryStatus": "Stopped"}, "was stopped by somebody"),
        ("Stopped", {"SecondaryStatus": "MaxRuntimeExceeded"}, "within its 24 hours"),
        ("Completed", {}, "without finishing the run"),
    ],
)
def test_any_other_end_without_a_model_fails_the_run_with_its_reason(status, fields, reason):
    store = started()
    with pytest.raises(JobFailed, match=reason) as caught:
        follow_job(store, RUN, ended(status, **fields), 3)
    assert caught.value.fix
    assert next_attempt(store, RUN) == 1


def test_what_the_program_says_is_the_runs_failure():
    store = started()
    write_failure(store, RUN, 1, JobFailure(error="TrainingDiverged", reason="It diverged.", fix="Lower the rate."))
    write_failure(store, RUN, 1, JobFailure(error="BadConfig", reason="Another process.", fix="None."))
    with pytest.raises(TrainingDiverged, match=r"It diverged\. Fix: Lower the rate\."):
        follow_job(store, RUN, ended("Failed", FailureReason="AlgorithmError: TrainingDiverged"), 3)


def test_rounds_that_are_done_count_whatever_became_of_the_job():
    """They are Lambda's here, which are the same: the run's model is exported where a job can't."""
    store = started(compute="lambda")
    settings = read_settings(store, RUN)
    job = JobSettings(instance="ml.m5.large", count=1, spot=False, hours=1)
    for round_ in (1, 2):
        for worker in range(settings.workers):
            train_shard(store, RUN, round_, worker)
        merge_round(store, RUN, round_)
    model = store.objects.pop(RunKeys(RUN).model)
    store.write(RunKeys(RUN).settings, settings.model_copy(update={"job": job}).encode())
    following = follow_job(store, RUN, ended("Failed", FailureReason="AlgorithmError: too late"), 1)
    assert following.finished
    assert store.read(RunKeys(RUN).model) == model


# ── A script's model ──────────────────────────────────────────────────────────────────────────────────────────────────


def answering(output: str = "probabilities", width: int | None = 3, given: str = "numbers", columns: int = 4) -> bytes:
    """A small network: a linear layer with a softmax, or the sum of the numbers."""
    x = helper.make_tensor_value_info(given, TensorProto.FLOAT, ["N", columns])
    if width is None:
        nodes = [helper.make_node("ReduceMean", [given, "axis"], [output], keepdims=0)]
        constants = [numpy_helper.from_array(np.array([1], np.int64), "axis")]
        y = helper.make_tensor_value_info(output, TensorProto.FLOAT, ["N"])
    else:
        weight = np.random.default_rng(0).normal(size=(columns, width)).astype(np.float32)
        nodes = [helper.make_node("MatMul", [given, "w"], ["z"]), helper.make_node("Softmax", ["z"], [output])]
        constants = [numpy_helper.from_array(weight, "w")]
        y = helper.make_tensor_value_info(output, TensorProto.FLOAT, ["N", width])
    graph = helper.make_graph(nodes, "net", [x], [y], constants)
    opsets = [helper.make_opsetid("", 18)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString())


def left(store: MemoryStore, files: dict[str, bytes]) -> None:
    """Files in the model.tar.gz of the first attempt."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    store.write(RunKeys(RUN).job_output(job_name(JOBS, RUN, 1)), buffer.getvalue())


@pytest.mark.parametrize("classes", [3, 0])
def test_a_scripts_model_is_verified_and_scored_as_the_runs_one_round(classes):
    store = started(script="train.py", classes=classes)
    model = answering() if classes else answering("value", None)
    left(store, {"./model.onnx": model, "notes.txt": b"x"})
    following = follow_job(store, RUN, ended("Completed"), 3)
    assert following.finished
    assert store.read(RunKeys(RUN).model) == model
    record = read_round(store, RUN, last_round(store, RUN))
    assert (record.round, record.finished, record.reason) == (1, True, "The user's script ended.")
    assert record.validation
    assert onnx.load_from_string(model)
    before = dict(store.objects)
    assert follow_job(store, RUN, ended("Completed"), 3) == following
    assert store.objects == before


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({}, "left no model.onnx"),
        ({"model.onnx": b"not a model"}, "ONNX"),
        ({"model.onnx": answering("logits")}, "answers logits"),
        ({"model.onnx": answering(width=4)}, "answers probabilities"),
        ({"model.onnx": answering(given="pixels")}, "takes 'pixels'"),
        ({"model.onnx": answering(columns=5)}, "Got: 4 Expected: 5"),
        ({"model.onnx": answering("value", None)}, "answers value"),
    ],
)
def test_a_scripts_model_that_doesnt_fit_the_data_is_refused(files, reason):
    store = started(script="train.py")
    left(store, files)
    with pytest.raises(BadModel, match=reason):
        follow_job(store, RUN, ended("Completed"), 3)
    assert not store.exists(RunKeys(RUN).round(1))


def test_a_script_that_leaves_nothing_or_no_archive_is_told():
    store = started(script="train.py")
    with pytest.raises(BadModel, match="left no model"):
        follow_job(store, RUN, ended("Completed"), 3)
    store.write(RunKeys(RUN).job_output(job_name(JOBS, RUN, 1)), b"no archive")
    with pytest.raises(BadModel, match="can't be unpacked"):
        follow_job(store, RUN, ended("Completed"), 3)


# ── The quote ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def pictures(samples: int, side: int, **config: Any) -> MemoryStore:
    store, spec = MemoryStore(), image_spec(side)
    splits = {"train": drawings(samples, side), "validation": drawings(30, side, seed=1)}
    commit(store, spec, splits, config=DatasetConfig(**config))
    return store


def quoted(store: MemoryStore, **overrides: Any) -> Any:
    return quote_run(store, DATASET, VERSION, overrides, JOBS)


def test_auto_stays_on_lambda_for_what_is_done_there_soon():
    choice = quoted(pictures(200, 8), compute="auto")
    assert (choice.service, choice.job) == ("lambda", None)
    here, there = choice.quotes
    assert here.minutes < 30 and there.minutes > 4 and "measured" in here.how and "assumed" in there.how
    assert "less than 30 minutes on Lambda" in choice.why


def test_auto_takes_a_job_for_what_is_long_there_and_short_here():
    store = pictures(400, 128, recipe="vgg")
    choice = quoted(store, compute="auto", training={"epochs": 1000})
    assert choice.service == "sagemaker"
    assert choice.job.instance == "ml.g4dn.xlarge"
    here, there = choice.quotes
    assert there.minutes < here.minutes / 2
    slow = {"service": "auto", "instance": "ml.m5.large"}
    assert quoted(store, compute=slow, training={"epochs": 1000}).service == "lambda"
    unknown = quoted(store, compute={"service": "auto", "instance": "ml.p5.48xlarge"}, training={"epochs": 1000})
    assert unknown.service == "lambda"
    assert "unknown minutes" in unknown.why


def test_a_run_with_a_backbone_is_quoted_for_lambda():
    store = pictures(200, 8, backbone="lite")
    choice = quoted(store)
    assert choice.service == "lambda" and [quote.service for quote in choice.quotes] == ["lambda"]
    # With a recipe of its own a run doesn't use it, and may be a job.
    other = quoted(store, recipe="cnn", compute="sagemaker")
    assert other.service == "sagemaker" and len(other.quotes) == 2


def test_what_lambda_would_refuse_has_no_quote(monkeypatch):
    monkeypatch.setattr("shoal_core.training.settings.MAX_ROUNDS", 12)
    with pytest.raises(BadConfig, match="a run has at most 12"):
        quoted(pictures(400, 128, recipe="vgg"), training={"epochs": 1000})


def test_auto_takes_a_job_where_lambda_would_need_too_many_rounds(monkeypatch):
    monkeypatch.setattr("shoal_core.training.settings.MAX_ROUNDS", 12)
    choice = quoted(pictures(400, 128, recipe="vgg"), compute="auto", training={"epochs": 1000})
    assert choice.service == "sagemaker"
    assert "more rounds than a run may have" in choice.why


def test_gpus_and_processors_add_up_less_than_once_each():
    one, four = SAGEMAKER_INSTANCES["ml.g5.xlarge"], SAGEMAKER_INSTANCES["ml.g5.12xlarge"]
    assert 2 * speed_up("cnn", one, 1) < speed_up("cnn", four, 1) < 4 * speed_up("cnn", one, 1)
    cpu = SAGEMAKER_INSTANCES["ml.c5.4xlarge"]
    assert 1 < speed_up("mlp", cpu, 1) < speed_up("mlp", cpu, 2) < cpu.vcpus
    assert speed_up("autoencoder", one, 1) > 1
