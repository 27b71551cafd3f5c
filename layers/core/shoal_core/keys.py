"""The key of every object in the artifacts bucket, in one place.

```
datasets/<name>/files/<sha256>.jsonl.gz                 at most 10,000 files of a set too large for request.json
                sources/<id>/source.json                what is read, and in which segments
                             segment-000.json           how far a segment has come, written after its parts
                             <sha256>.jsonl             rows of a table that was read
datasets/<name>/<version>/request.json                  what was uploaded, and the settings
                          plan.json                     preprocessing spec and work items
                          blocks/block-00000            a part of the source that planning re-packed to be read alone
                          labels/item-00000.safetensors the labels of one work item's files
                          pieces/piece-00000.json       one work item's outcome, written after its tensors
                          pieces/piece-00000.safetensors, .places.json
                          assignment.json, .safetensors which samples each final shard takes
                          packs/pack-00000.json         one final shard's outcome, written after its tensors
                          train/shard-00000.safetensors
                          report.json, report.html      what was kept, dropped and why
                          compared.json                 the version that drift is told against
                          manifest.json                 the index, written last
quarantine/<name>/<version>/item-00000.jsonl            bad samples with reasons; files as they were beside them
runs/<run>/settings.json  the resolved settings
           graphs/forward.onnx, graphs/step.onnx
           checkpoints/checkpoint-000012.safetensors
           averages/average-000012.safetensors          the weights' moving average, where the run has one
           updates/round-000012/update-000.safetensors
           rounds/round-000012.json                     metrics of one round, written after its checkpoint
           evaluation/shard-00000.json, evaluation.json
           model.onnx, candidates/int8-static.onnx      what training exported, and what is served instead of it
models/<name>/<version>/model.onnx, spec.json
```
"""

# ruff: noqa: D102 - the drawing above says what is under each key

from __future__ import annotations

from dataclasses import dataclass


def listing_key(dataset: str, sha256: str) -> str:
    """One part of a listing, named by its content."""
    return f"datasets/{dataset}/files/{sha256}.jsonl.gz"


@dataclass(frozen=True)
class SourceKeys:
    """Keys of one reading of a source that isn't an upload."""

    dataset: str
    source_id: str

    @property
    def prefix(self) -> str:
        return f"datasets/{self.dataset}/sources/{self.source_id}/"

    @property
    def source(self) -> str:
        return f"{self.prefix}source.json"

    def segment(self, segment: int) -> str:
        return f"{self.prefix}segment-{segment:03d}.json"

    def rows(self, sha256: str) -> str:
        return f"{self.prefix}{sha256}.jsonl"


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

    @property
    def report_page(self) -> str:
        return f"{self.prefix}report.html"

    @property
    def compared(self) -> str:
        return f"{self.prefix}compared.json"

    @property
    def quarantine_prefix(self) -> str:
        return f"quarantine/{self.dataset}/{self.version}/"

    def quarantine(self, item: int | None) -> str:
        name = "plan" if item is None else f"item-{item:05d}"
        return f"{self.quarantine_prefix}{name}.jsonl"

    def quarantined(self, item: int, number: int, suffix: str) -> str:
        return f"{self.quarantine_prefix}item-{item:05d}/{number:04d}{suffix}"

    def value_hashes(self, item: int, clause: int) -> str:
        return f"{self.prefix}pieces/unique/piece-{item:05d}-{clause:03d}.safetensors"

    def block(self, block: int) -> str:
        return f"{self.prefix}blocks/block-{block:05d}"

    def item_labels(self, item: int) -> str:
        return f"{self.prefix}labels/item-{item:05d}.safetensors"

    def piece_index(self, item: int) -> str:
        return f"{self.prefix}pieces/piece-{item:05d}.json"

    def piece(self, item: int) -> str:
        return f"{self.prefix}pieces/piece-{item:05d}.safetensors"

    def places(self, item: int) -> str:
        return f"{self.prefix}pieces/piece-{item:05d}.places.json"

    @property
    def assignment(self) -> str:
        return f"{self.prefix}assignment.json"

    @property
    def assignment_tables(self) -> str:
        return f"{self.prefix}assignment.safetensors"

    def pack_index(self, shard: int) -> str:
        return f"{self.prefix}packs/pack-{shard:05d}.json"

    def shard(self, split: str, index: int, part: int = 0) -> str:
        name = f"shard-{index:05d}-{part:03d}" if part else f"shard-{index:05d}"
        return f"{self.prefix}{split}/{name}.safetensors"


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
