"""What becomes of a run whose SageMaker job is under way, has ended well, or hasn't."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field

from shoal_core import errors
from shoal_core.errors import JobFailed, ShoalError
from shoal_core.frozen import Frozen
from shoal_core.keys import RunKeys
from shoal_core.registry.pricing import sagemaker_cost
from shoal_core.store import ObjectStore
from shoal_core.training.job_attempts import (
    MAX_ATTEMPTS,
    JobAttempt,
    give_up_attempt,
    next_attempt,
    read_failure,
)
from shoal_core.training.job_requests import wait_after
from shoal_core.training.merging import read_served, round_state
from shoal_core.training.rounds import read_manifest, read_settings
from shoal_core.training.settings import TrainingSettings
from shoal_core.training.states import RoundState, last_round, read_round

# What AWS says of its own faults, which another attempt may not meet:
# https://docs.aws.amazon.com/sagemaker/latest/dg/training-troubleshooting.html
_AWS_FAULTS = ("InternalServerError", "CapacityError")
_PROGRAM_FAULTS = "AlgorithmError"


class JobDescription(Frozen):
    """What DescribeTrainingJob says, as far as it matters here."""

    model_config = ConfigDict(extra="ignore")

    TrainingJobName: str
    TrainingJobStatus: Literal["InProgress", "Completed", "Failed", "Stopping", "Stopped"]
    SecondaryStatus: str = ""
    FailureReason: str = ""
    BillableTimeInSeconds: int | None = None
    ResourceConfig: dict[str, Any] = Field(default={})
    EnableManagedSpotTraining: bool = False

    @property
    def ended(self) -> bool:
        """Whether it won't change any more."""
        return self.TrainingJobStatus in ("Completed", "Failed", "Stopped")


class Following(Frozen):
    """What the state machine does next.

    Attributes:
        finished: The run is trained: its model is there.
        again: The job ended by no fault of the run: Start Training makes another attempt.
        wait_seconds: Otherwise, until the job is looked at again.
        looks: How often it was looked at.
        state: Of a trained run.
    """

    finished: bool = False
    again: bool = False
    wait_seconds: int = 0
    looks: int = 0
    state: RoundState | None = None


def job_usage(described: JobDescription) -> dict[str, Any]:
    """What a job is and has used, for people: its dollars are None where its instance's price isn't known."""
    instance, count = described.ResourceConfig.get("InstanceType", ""), described.ResourceConfig.get("InstanceCount", 1)
    seconds = described.BillableTimeInSeconds or 0
    return {
        "name": described.TrainingJobName,
        "status": described.TrainingJobStatus,
        "detail": described.FailureReason or described.SecondaryStatus,
        "instance": instance,
        "count": count,
        "spot": described.EnableManagedSpotTraining,
        "seconds": seconds,
        # With spot, the seconds that are billed are fewer: SageMaker takes the saving off the time.
        "cost_usd": sagemaker_cost(instance, count, seconds),
    }


def follow_job(artifacts: ObjectStore, run_id: str, described: JobDescription, looks: int) -> Following:
    """Decide what to do after a look at a run's job. Looking twice decides the same.

    Args:
        artifacts: The artifacts bucket.
        run_id: The run.
        described: The job, as SageMaker describes it.
        looks: How often it was looked at before.

    Raises:
        JobFailed: The job failed or was stopped, and another attempt wouldn't do better.
        BadModel: A user's script left a model that can't be served, or that doesn't answer this data.
        ShoalError: What the job's program ended with, such as `TrainingDiverged`.
    """
    settings = read_settings(artifacts, run_id)
    job = settings.job
    if job is None:
        raise JobFailed(f"Run {run_id!r} trains on Lambda, and has no training job.", "Start its execution again.")
    if not described.ended:
        return Following(wait_seconds=wait_after(looks, job), looks=looks + 1)
    if job.script is not None and described.TrainingJobStatus == "Completed":
        from shoal_core.training.scripted import bring_model  # with it comes onnx

        bring_model(artifacts, settings, described.TrainingJobName)
    done = last_round(artifacts, run_id)
    if done and read_round(artifacts, run_id, done).finished:
        _export(artifacts, settings, done)
        state = round_state(artifacts, settings, read_manifest(artifacts, settings), done)
        return Following(finished=True, looks=looks + 1, state=state)
    return _ended_badly(artifacts, settings, described)


def _export(artifacts: ObjectStore, settings: TrainingSettings, last: int) -> None:
    """The best checkpoint as the run's model, which a job can't make: it has no onnx."""
    if not artifacts.exists(RunKeys(settings.run_id).model):
        from shoal_core.training.finishing import export_checkpoint

        best = read_round(artifacts, settings.run_id, last).best_round
        threshold = read_round(artifacts, settings.run_id, best).validation.get("threshold", 0.0)
        export_checkpoint(artifacts, settings, read_served(artifacts, settings, best), threshold)


def _ended_badly(artifacts: ObjectStore, settings: TrainingSettings, described: JobDescription) -> Following:
    """Another attempt, where AWS failed the job; else the reason is raised."""
    run_id = settings.run_id
    attempt = _attempt_of(described)
    failure = read_failure(artifacts, run_id, attempt)
    if failure is not None and described.TrainingJobStatus == "Failed":
        kind = getattr(errors, failure.error, None)
        known = kind if isinstance(kind, type) and issubclass(kind, ShoalError) else JobFailed
        raise known(failure.reason, failure.fix)
    reason = described.FailureReason or described.SecondaryStatus
    if described.FailureReason.startswith(_AWS_FAULTS) and attempt < MAX_ATTEMPTS:
        outcome = JobAttempt(job=described.TrainingJobName, status=described.TrainingJobStatus, reason=reason)
        give_up_attempt(artifacts, run_id, attempt, outcome)
    if attempt < next_attempt(artifacts, run_id):  # also when this look is a late repetition
        return Following(again=True)
    raise JobFailed(*_told(settings, described, reason))


def _attempt_of(described: JobDescription) -> int:
    return int(described.TrainingJobName.rpartition("-")[2])


def _told(settings: TrainingSettings, described: JobDescription, reason: str) -> tuple[str, str]:
    name = described.TrainingJobName
    logs = f"See the streams {name} of the log group /aws/sagemaker/TrainingJobs (here: `shoal logs training-jobs`)."
    if described.TrainingJobStatus == "Stopped":
        hours = settings.job.hours if settings.job else 0
        if described.SecondaryStatus in ("MaxRuntimeExceeded", "MaxWaitTimeExceeded"):
            return (
                f"Training job {name} wasn't done within its {hours:g} hours; its rounds until then are kept.",
                "Raise compute.hours, or use a faster instance, and train again.",
            )
        return f"Training job {name} was stopped by somebody.", "Train again; nothing is wrong with the run."
    if described.TrainingJobStatus == "Completed":
        return f"Training job {name} ended without finishing the run.", logs
    if reason.startswith(_PROGRAM_FAULTS):
        return f"Training job {name} failed: {reason}", logs
    return (
        f"Training job {name} failed: {reason}",
        "ClientError is about the job's image, role, network or data; CapacityError about the instance type: take "
        "another one (compute.instance). Then train again.",
    )
