"""A run as a SageMaker training job: what is asked of CreateTrainingJob.

The job's name follows from the run and the attempt, so asking twice is asking once. Source of the fields:
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateTrainingJob.html
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import math
import re
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import shoal_core
from shoal_core.data.config_types import SPLITS, Split
from shoal_core.data.manifest import Manifest
from shoal_core.keys import DatasetKeys, RunKeys
from shoal_core.store import ObjectStore
from shoal_core.training.job_attempts import next_attempt
from shoal_core.training.job_settings import JobOptions, JobSettings, image_of
from shoal_core.training.settings import TrainingSettings

PROGRAM = "train.py"
LOOKS = 1_000
"""How often a job is looked at, at most: 14 events of an execution's history each."""
# These come with disks of their own, which are encrypted by their hardware: a key for a volume is refused.
_OWN_DISKS = re.compile(r"ml\.(g4dn|g5|g6|g6e|p3dn|p4d|p4de|p5|p5e|m5d|c5d|r5d|m6id|c6id|trn1)\.")
_SPARE_GB, _MOST_GB = 30, 16_384
_WAIT_GROWS, _WAIT_MOST = 1.02, 60
_START = b"""import sys

from shoal_core.aws.training_job import main

if __name__ == "__main__":
    sys.exit(main())
"""
# What the program needs beside what AWS's PyTorch images bring; pip asks nobody where it is there already.
_REQUIREMENTS = b"pydantic>=2.7\n"
_STACK_LETTERS = 26


def job_name(options: JobOptions, run_id: str, attempt: int) -> str:
    """At most 63 letters, digits and hyphens; another stack's run of the same name is another job."""
    digest = hashlib.sha256(f"{options.stack}/{run_id}".encode()).hexdigest()[:10]
    slug = re.sub(r"[^a-z0-9]+", "-", run_id.lower())[:20].strip("-")
    stack = options.stack.lower()[:_STACK_LETTERS].strip("-")
    return "-".join(part for part in (stack, slug, digest, str(attempt)) if part)


def job_request(
    settings: TrainingSettings, job: JobSettings, manifest: Manifest, options: JobOptions, bucket: str, attempt: int
) -> dict[str, Any]:
    """The parameters of CreateTrainingJob, but the role, which the state machine adds.

    Args:
        settings: Of the run.
        job: Its instances and script.
        manifest: Of its data.
        options: The stack's.
        bucket: Name of the artifacts bucket.
        attempt: From 1.

    Raises:
        BadConfig: The stack's image can't be one, or none is known for its region.
    """
    keys, name = RunKeys(settings.run_id), job_name(options, settings.run_id, attempt)
    seconds = math.ceil(job.hours * 3600)
    limits = {"MaxRuntimeInSeconds": seconds}
    if job.spot:
        limits["MaxWaitTimeInSeconds"] = 2 * seconds
    resources: dict[str, Any] = {
        "InstanceType": job.instance,
        "InstanceCount": job.count,
        "VolumeSizeInGB": _volume(manifest),
    }
    if options.key and not _OWN_DISKS.match(job.instance):
        resources["VolumeKmsKeyId"] = options.key
    output = {"S3OutputPath": f"s3://{bucket}/{keys.job}"} | ({"KmsKeyId": options.key} if options.key else {})
    request: dict[str, Any] = {
        "TrainingJobName": name,
        "AlgorithmSpecification": {"TrainingImage": image_of(options, job.instance), "TrainingInputMode": "File"},
        "HyperParameters": _hyperparameters(settings, job, options, f"s3://{bucket}/{keys.job_code}"),
        "Environment": {
            "SHOAL_RUN_ID": settings.run_id,
            "SHOAL_ATTEMPT": str(attempt),
            "SHOAL_ARTIFACTS_BUCKET": bucket,
            "AWS_DEFAULT_REGION": options.region,
        }
        | ({"SHOAL_ENDPOINT_URL": options.endpoint} if options.endpoint else {}),
        "InputDataConfig": _channels(settings, job, manifest, bucket),
        "OutputDataConfig": output,
        "ResourceConfig": resources,
        "StoppingCondition": limits,
        "EnableManagedSpotTraining": job.spot,
        "EnableInterContainerTrafficEncryption": job.count > 1 and bool(options.key),
        "CheckpointConfig": {"S3Uri": f"s3://{bucket}/{keys.job}/checkpoints", "LocalPath": "/opt/ml/checkpoints"},
        "Tags": [{"Key": "shoal:stack", "Value": options.stack}, {"Key": "shoal:run", "Value": settings.run_id}],
    }
    if options.subnets:
        request["VpcConfig"] = {"Subnets": list(options.subnets), "SecurityGroupIds": list(options.groups)}
    return request


def job_to_create(
    artifacts: ObjectStore, settings: TrainingSettings, manifest: Manifest, options: JobOptions | None, bucket: str
) -> dict[str, Any]:
    """What the state machine needs to start the next attempt of a run's job; empty for a run on Lambda.

    Raises:
        BadConfig: As `job_request` does.
    """
    if settings.job is None or options is None:
        return {}
    attempt = next_attempt(artifacts, settings.run_id)
    request = job_request(settings, settings.job, manifest, options, bucket, attempt)
    return {
        "job": request,
        "job_in_vpc": "VpcConfig" in request,
        "looks": 0,
        "wait_seconds": wait_after(0, settings.job),
    }


def wait_after(looks: int, job: JobSettings) -> int:
    """Seconds until a job is looked at again: a little longer each time, so that all looks fit one execution."""
    longest = max(_WAIT_MOST, math.ceil(job.hours * 3600 * (2 if job.spot else 1) / LOOKS))
    return int(min(longest, _WAIT_GROWS ** min(looks, LOOKS)))


def program_archive() -> bytes:
    """`sourcedir.tar.gz` of a recipe's job: this very shoal_core and the program that starts it.

    The same bytes each time. Its form is that of the SageMaker training toolkit, which AWS's images bring.
    """
    root = Path(shoal_core.__file__).parent
    files = {f"shoal_core/{path.relative_to(root).as_posix()}": path.read_bytes() for path in root.rglob("*.py")}
    return archive({**files, PROGRAM: _START, "requirements.txt": _REQUIREMENTS})


def archive(files: Mapping[str, bytes]) -> bytes:
    """A tar.gz of files by name, without times."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in sorted(files):
            entry = tarfile.TarInfo(name)
            entry.size = len(files[name])
            tar.addfile(entry, io.BytesIO(files[name]))
    return gzip.compress(buffer.getvalue(), mtime=0)


def _hyperparameters(settings: TrainingSettings, job: JobSettings, options: JobOptions, code: str) -> dict[str, str]:
    """What the toolkit and, as arguments, a user's script get; all of them JSON."""
    given: dict[str, Any] = {
        "sagemaker_program": Path(job.script).name if job.script else PROGRAM,
        "sagemaker_submit_directory": code,
        "sagemaker_region": options.region,
        "sagemaker_container_log_level": 20,
    }
    if job.script:
        given |= settings.model_dump(
            include={"epochs", "batch_size", "learning_rate", "optimizer", "seed"}, mode="json"
        ) | {"task": settings.task, "classes": len(settings.classes)}
    return {name: json.dumps(value) for name, value in given.items()}


def _channels(settings: TrainingSettings, job: JobSettings, manifest: Manifest, bucket: str) -> list[dict[str, Any]]:
    """The splits that a job reads; a script gets all of them, and the manifest."""
    keys = DatasetKeys(settings.dataset, settings.version)
    wanted: tuple[Split, ...] = SPLITS if job.script else ("train", settings.validation_split)
    prefixes = {split: f"{keys.prefix}{split}/" for split in dict.fromkeys(wanted) if manifest.shards(split)}
    if job.script:
        prefixes |= {"manifest": keys.manifest}  # type: ignore[dict-item]  # no split
    return [
        {
            "ChannelName": name,
            "DataSource": {
                "S3DataSource": {
                    "S3DataType": "S3Prefix",
                    "S3Uri": f"s3://{bucket}/{prefix}",
                    "S3DataDistributionType": "FullyReplicated",
                }
            },
            "InputMode": "File",
        }
        for name, prefix in prefixes.items()
    ]


def _volume(manifest: Manifest) -> int:
    """Gigabytes for the channels, the model and the image's own needs."""
    data = sum(shard.bytes for split in SPLITS for shard in manifest.shards(split))
    return min(_MOST_GB, _SPARE_GB + math.ceil(data * 1.2 / 1024**3))
