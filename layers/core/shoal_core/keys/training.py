"""Keys of runs, searches and networks."""

# ruff: noqa: D102 - the drawing in __init__.py says what is under each key

from __future__ import annotations

from dataclasses import dataclass


def script_key(dataset: str, script: str) -> str:
    """Where a user's own training script lies in the uploads bucket."""
    return f"scripts/{dataset}/{script}"


@dataclass(frozen=True)
class RunKeys:
    """Keys of one run."""

    run_id: str

    @property
    def prefix(self) -> str:
        return f"runs/{self.run_id}/"

    @property
    def request(self) -> str:
        return f"{self.prefix}request.json"

    @property
    def settings(self) -> str:
        return f"{self.prefix}settings.json"

    @property
    def origin(self) -> str:
        return f"{self.prefix}origin.json"

    @property
    def forward_graph(self) -> str:
        return f"{self.prefix}graphs/forward.onnx"

    @property
    def step_graph(self) -> str:
        return f"{self.prefix}graphs/step.onnx"

    @property
    def frozen_graph(self) -> str:
        return f"{self.prefix}graphs/frozen.onnx"

    @property
    def head_graph(self) -> str:
        return f"{self.prefix}graphs/head.onnx"

    @property
    def tuning_graph(self) -> str:
        return f"{self.prefix}graphs/tuning.onnx"

    def descent_of(self, graph: str) -> str:
        return f"{graph.removesuffix('.onnx')}-descent.onnx"

    @property
    def feature_items(self) -> str:
        return f"{self.prefix}feature-items.json"

    @property
    def evaluation(self) -> str:
        return f"{self.prefix}evaluation/evaluation.json"

    @property
    def model(self) -> str:
        return f"{self.prefix}model.onnx"

    @property
    def network(self) -> str:
        return f"{self.prefix}graphs/network.safetensors"

    @property
    def job(self) -> str:
        return f"{self.prefix}job"

    @property
    def job_code(self) -> str:
        return f"{self.job}/sourcedir.tar.gz"

    def job_attempt(self, attempt: int) -> str:
        return f"{self.job}/attempt-{attempt}.json"

    def job_failure(self, attempt: int) -> str:
        return f"{self.job}/failure-{attempt}.json"

    def job_output(self, name: str) -> str:
        return f"{self.job}/{name}/output/model.tar.gz"

    def candidate(self, name: str) -> str:
        return f"{self.prefix}candidates/{name}.onnx"

    @property
    def optimization(self) -> str:
        return f"{self.prefix}optimization.json"

    def checkpoint(self, round_: int) -> str:
        return f"{self.prefix}checkpoints/checkpoint-{round_:06d}.safetensors"

    def average(self, round_: int) -> str:
        return f"{self.prefix}averages/average-{round_:06d}.safetensors"

    def update(self, round_: int, worker: int) -> str:
        return f"updates/{self.run_id}/round-{round_:06d}/update-{worker:03d}.safetensors"

    def part(self, round_: int, worker: int) -> str:
        return f"{self.prefix}parts/round-{round_:06d}/part-{worker:03d}.safetensors"

    def lost(self, round_: int, worker: int) -> str:
        return f"{self.prefix}lost/round-{round_:06d}/lost-{worker:03d}.safetensors"

    def round(self, round_: int) -> str:
        return f"{self.prefix}rounds/round-{round_:06d}.json"

    def shard_evaluation(self, shard: int) -> str:
        return f"{self.prefix}evaluation/shard-{shard:05d}.json"

    def champion_shard(self, version: int, shard: int) -> str:
        return f"{self.prefix}evaluation/champion-{version:06d}/shard-{shard:05d}.json"


@dataclass(frozen=True)
class TuningKeys:
    """Keys of one search."""

    tuning_id: str

    @property
    def prefix(self) -> str:
        return f"tunings/{self.tuning_id}/"

    @property
    def request(self) -> str:
        return f"{self.prefix}request.json"

    @property
    def plan(self) -> str:
        return f"{self.prefix}plan.json"

    @property
    def lanes(self) -> str:
        return f"{self.prefix}lanes.json"

    def report(self, form: str) -> str:
        return f"{self.prefix}report.{form}"


@dataclass(frozen=True)
class FittedKeys:
    """Keys of a network that was fitted to a dataset version."""

    prefix: str

    @property
    def forward(self) -> str:
        return f"{self.prefix}forward.onnx"

    @property
    def values(self) -> str:
        return f"{self.prefix}values.safetensors"

    @property
    def index(self) -> str:
        return f"{self.prefix}network.json"


@dataclass(frozen=True)
class NetworkKeys:
    """Keys of one network that a user brought, in the artifacts bucket; `upload` is its key in the uploads bucket."""

    sha256: str

    @property
    def upload(self) -> str:
        return f"networks/{self.sha256}.onnx"

    @property
    def network(self) -> str:
        return f"networks/{self.sha256}/network.onnx"

    def fitted(self, dataset: str, version: str, settings: str) -> FittedKeys:
        return FittedKeys(f"networks/{self.sha256}/{dataset}/{version}/{settings}/")
