"""What the catalog holds and the API shows: one model per thing, JSON in and out."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from shoal_core.frozen import Frozen

RunStatus = Literal["running", "paused", "succeeded", "failed"]
"""A search's trial is paused where a rung ends; see docs/tuning.md."""


class Source(Frozen):
    """One uploaded object that a run was made from."""

    key: str
    version: str | None = None
    size: int = Field(ge=0, description="bytes")


class VersionRun(Frozen):
    """The latest run of a dataset version."""

    dataset: str
    version: str
    run_id: str
    attempt: int = Field(ge=1)
    failed: bool
    source: tuple[Source, ...]


class Failure(Frozen):
    """Why a run ended, and what to do."""

    stage: str = Field(description="the state that failed")
    error: str = Field(description="the error's name")
    reason: str
    fix: str


class StageUsage(Frozen):
    """What one stage of a run used. Only invocations that ended by themselves are counted."""

    name: str
    started_at: str
    finished_at: str
    seconds: float = Field(description="from the first start to the last end, wall clock")
    invocations: int
    gb_seconds: float
    cost_usd: float


class Progress(Frozen):
    """How far a run has come."""

    shards_done: int = 0
    shards_total: int = 0
    packs_done: int = 0
    packs_total: int = 0
    round: int = 0
    rounds: int = 0
    workers: int | None = Field(default=None, description="of the newest round")
    loss: float | None = None
    validation: dict[str, float] = Field(default_factory=dict)


class RoundSummary(Frozen):
    """One round of training."""

    round: int
    loss: float
    learning_rate: float
    validation: dict[str, float]
    reason: str | None = Field(default=None, description="why the run ended with this round")
    lost: list[int] = Field(default_factory=list, description="workers that the round went on without")
    workers: int | None = Field(default=None, description="how many it had")


class ModelReference(Frozen):
    """A version of a model."""

    name: str
    version: int


class RunStarted(Frozen):
    """A run by request; `unchanged` when the same was asked for before, and this is that run."""

    run_id: str
    dataset: str
    version: str
    unchanged: bool = False


class WorkersChanged(Frozen):
    """How many workers a run was to have, and how many it shall have from its next round on."""

    run_id: str
    before: int
    workers: int


class Quote(Frozen):
    """What a run takes in one place, about."""

    service: Literal["lambda", "sagemaker"]
    minutes: float | None = Field(default=None, description="to its last round; null where nothing is known")
    dollars: float | None = Field(default=None, description="for training; null where the price isn't known")
    how: str = Field(description="on what, and what is measured or assumed")


class RunQuote(Frozen):
    """Where a run would train, and why."""

    service: Literal["lambda", "sagemaker"]
    why: str
    quotes: list[Quote]


class TrainingJob(Frozen):
    """One attempt of a run's SageMaker training job."""

    name: str
    status: str
    detail: str = Field(default="", description="why it failed, or what it is doing")
    instance: str
    count: int
    spot: bool = False
    seconds: int = Field(default=0, description="what is billed so far")
    cost_usd: float | None = Field(default=None, description="on demand; null where the instance's price isn't known")


class Run(Frozen):
    """One pass from an upload, or from a version that is there, to a model version."""

    run_id: str
    dataset: str
    version: str
    status: RunStatus
    stage: str
    created_at: str
    updated_at: str
    finished_at: str | None = None
    source: list[Source] = Field(default_factory=list)
    request: dict[str, Any] | None = Field(default=None, description="what was asked for, where no upload began it")
    settings: dict[str, Any] = Field(default_factory=dict)
    inferred: list[str] = Field(default_factory=list)
    warnings: list[str] = Field(default_factory=list)
    progress: Progress = Field(default_factory=Progress)
    rounds: list[RoundSummary] = Field(default_factory=list)
    stages: list[StageUsage] = Field(default_factory=list)
    seconds: float = 0.0
    gb_seconds: float = 0.0
    cost_usd: float = Field(default=0.0, description="estimated cost on AWS so far, US dollars")
    jobs: list[TrainingJob] = Field(default_factory=list, description="SageMaker training jobs, where it trains there")
    metrics: dict[str, Any] = Field(default_factory=dict)
    optimization: dict[str, Any] = Field(default_factory=dict, description="what the offline optimisation did")
    model: ModelReference | None = None
    failure: Failure | None = None


class DatasetVersion(Frozen):
    """One immutable state of a dataset, named by its content."""

    version: str
    status: Literal["preparing", "ready", "failed"]
    created_at: str
    run_id: str
    task: str | None = None
    samples: dict[str, int] = Field(default_factory=dict, description="samples per split")


class Dataset(Frozen):
    """A dataset and its versions, newest first."""

    name: str
    status: Literal["waiting", "preparing", "ready", "failed"]
    latest_version: str | None = None
    task: str | None = None
    samples: dict[str, int] = Field(default_factory=dict)
    created_at: str
    note: str = ""
    versions: list[DatasetVersion] = Field(default_factory=list)


class ModelVersion(Frozen):
    """One immutable version of a model."""

    version: int
    run_id: str
    dataset: str
    dataset_version: str
    task: str
    metrics: dict[str, Any]
    digest: str = Field(description="sha256 of model.onnx")
    bytes: int
    created_at: str
    optimization: dict[str, Any] = Field(default_factory=dict, description="the candidates, and which one is served")
    promotion: dict[str, Any] = Field(default_factory=dict, description="what was decided of it beside the champion")
    signature: dict[str, Any] = Field(default_factory=dict, description="the file's inputs and outputs")
    lineage: dict[str, Any] = Field(default_factory=dict, description="upload, dataset version, run, checkpoint, file")
    owner: str = ""


class RefusedImport(Frozen):
    """An uploaded model that can't be served."""

    run_id: str
    at: str
    error: str = Field(description="the error's name")
    reason: str
    fix: str


class Model(Frozen):
    """A model, its versions (newest first) and its aliases."""

    name: str
    task: str
    aliases: dict[str, int]
    traffic: Traffic | None = None
    versions: list[ModelVersion]
    inputs: dict[str, Any] = Field(default_factory=dict)
    classes: list[str] | None = None
    endpoint: str = ""
    refused: list[RefusedImport] = Field(default_factory=list, description="imports that failed, newest first")


class TargetShare(Frozen):
    """A version and the share of the requests that it answers."""

    version: int
    percent: float


class CanaryState(Frozen):
    """A version that takes over step by step."""

    version: int
    percent: float
    steps: list[float] = Field(description="percent")
    step: int = Field(description="where it is, from 1")
    every_seconds: int
    started_at: str
    step_at: str
    max_errors: float
    max_latency_ms: float | None
    max_slowdown: float
    min_requests: int


class ShadowState(Frozen):
    """A version that is asked, too, and whose answers are compared and not returned."""

    version: int
    percent: float
    started_at: str


class Traffic(Frozen):
    """Who answers a model's requests."""

    model: str
    production: int
    aliases: dict[str, int]
    shares: list[TargetShare]
    canary: CanaryState | None = None
    split: bool = Field(default=False, description="whether the shares are an A/B split")
    shadow: ShadowState | None = None
    measured: dict[str, Any] = Field(default_factory=dict, description="requests, errors and latency of its versions")


class ModelSummary(Frozen):
    """A model and its version in production."""

    name: str
    production: int
    versions: int
    task: str
    metrics: dict[str, Any]
    updated_at: str


class Problem(BaseModel):
    """An error, as problem+json (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str = Field(description="what is wrong, with what")
    fix: str = Field(description="what to do about it")
    error: str = Field(description="both in one text, for clients of the Open Inference Protocol")


class ClassPrediction(Frozen):
    """What a classifier answers for one instance."""

    label: str
    probability: float | None
    probabilities: dict[str, float | None]


class LabelsPrediction(Frozen):
    """What a model of several labels answers for one instance: those at least as likely as not, the likeliest first."""

    labels: list[str]
    probabilities: dict[str, float | None]


class AnomalyPrediction(Frozen):
    """How unusual one instance is: its score, about 1 for what the training data's mean explains as well as the model,
    and whether that is above the model's threshold.
    """

    score: float | None
    anomalous: bool


class ValuePrediction(Frozen):
    """What a regression model answers for one instance, in the target's units."""

    value: float | None


class Predictions(Frozen):
    """The answer of `POST /models/{name}/predict`, in the order of the instances."""

    model: str
    version: int
    task: str
    predictions: list[ClassPrediction | LabelsPrediction | ValuePrediction | AnomalyPrediction]


class Health(Frozen):
    """That the API answers."""

    status: Literal["ok"] = "ok"
    version: str
