"""The key of every object in the artifacts bucket, in one place.

```
datasets/<name>/<version>/request.json                  what was uploaded, and the settings
                          plan.json                     preprocessing spec and work items
                          pieces/piece-00000.json       one work item's outcome, written after its shards
                          pieces/train/piece-00000.safetensors, .places.json
                          train/shard-00000.safetensors
                          report.json                   what was kept, dropped and why
                          manifest.json                 the index, written last
runs/<run>/settings.json  the resolved settings
           graphs/forward.onnx, graphs/step.onnx
           checkpoints/checkpoint-000012.safetensors
           averages/average-000012.safetensors          the weights' moving average, where the run has one
           updates/round-000012/update-000.safetensors
           rounds/round-000012.json                     metrics of one round, written after its checkpoint
           evaluation/shard-00000.json, evaluation.json
           model.onnx, optimized.onnx
models/<name>/<version>/model.onnx, spec.json
```
"""

# ruff: noqa: D102 - the drawing above says what is under each key

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DatasetKeys:
    """Keys of one dataset version."""

    dataset: str
    version: str

    @property
    def prefix(self) -> str:
        return f"datasets/{self.dataset}/{self.version}/"

    @property
    def request(self) -> str:
        return f"{self.prefix}request.json"

    @property
    def plan(self) -> str:
        return f"{self.prefix}plan.json"

    @property
    def manifest(self) -> str:
        return f"{self.prefix}manifest.json"

    @property
    def report(self) -> str:
        return f"{self.prefix}report.json"

    def piece_index(self, item: int) -> str:
        return f"{self.prefix}pieces/piece-{item:05d}.json"

    def piece(self, split: str, item: int) -> str:
        return f"{self.prefix}pieces/{split}/piece-{item:05d}.safetensors"

    def places(self, split: str, item: int) -> str:
        return f"{self.prefix}pieces/{split}/piece-{item:05d}.places.json"

    def shard(self, split: str, index: int) -> str:
        return f"{self.prefix}{split}/shard-{index:05d}.safetensors"


@dataclass(frozen=True)
class RunKeys:
    """Keys of one run."""

    run_id: str

    @property
    def prefix(self) -> str:
        return f"runs/{self.run_id}/"

    @property
    def settings(self) -> str:
        return f"{self.prefix}settings.json"

    @property
    def forward_graph(self) -> str:
        return f"{self.prefix}graphs/forward.onnx"

    @property
    def step_graph(self) -> str:
        return f"{self.prefix}graphs/step.onnx"

    @property
    def evaluation(self) -> str:
        return f"{self.prefix}evaluation/evaluation.json"

    @property
    def model(self) -> str:
        return f"{self.prefix}model.onnx"

    @property
    def optimized_model(self) -> str:
        return f"{self.prefix}optimized.onnx"

    @property
    def optimization(self) -> str:
        return f"{self.prefix}optimization.json"

    def checkpoint(self, round_: int) -> str:
        return f"{self.prefix}checkpoints/checkpoint-{round_:06d}.safetensors"

    def average(self, round_: int) -> str:
        return f"{self.prefix}averages/average-{round_:06d}.safetensors"

    def update(self, round_: int, worker: int) -> str:
        return f"{self.prefix}updates/round-{round_:06d}/update-{worker:03d}.safetensors"

    def round(self, round_: int) -> str:
        return f"{self.prefix}rounds/round-{round_:06d}.json"

    def shard_evaluation(self, shard: int) -> str:
        return f"{self.prefix}evaluation/shard-{shard:05d}.json"


@dataclass(frozen=True)
class ModelKeys:
    """Keys of one model version."""

    model: str
    version: int

    @property
    def prefix(self) -> str:
        return f"models/{self.model}/{self.version}/"

    @property
    def onnx(self) -> str:
        return f"{self.prefix}model.onnx"

    @property
    def spec(self) -> str:
        return f"{self.prefix}spec.json"
