"""Keys of models, batch jobs and streams."""

# ruff: noqa: D102 - the drawing in __init__.py says what is under each key

from __future__ import annotations

from dataclasses import dataclass


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
    def backbone(self) -> str:
        return f"{self.prefix}backbone.json"

    @property
    def pipeline(self) -> str:
        return f"{self.prefix}pipeline.json"

    def card(self, form: str) -> str:
        return f"{self.prefix}card.{form}"

    @property
    def spec(self) -> str:
        return f"{self.prefix}spec.json"


@dataclass(frozen=True)
class BatchKeys:
    """Keys of one batch job."""

    model: str
    job: str

    @property
    def prefix(self) -> str:
        return f"batches/{self.model}/{self.job}/"

    @property
    def request(self) -> str:
        return f"{self.prefix}request.json"

    @property
    def inputs(self) -> str:
        return f"{self.prefix}inputs.json"

    @property
    def plan(self) -> str:
        return f"{self.prefix}plan.json"

    @property
    def work_items(self) -> str:
        return f"{self.prefix}work-items.json"

    @property
    def manifest(self) -> str:
        return f"{self.prefix}manifest.json"

    def block(self, block: int) -> str:
        return f"{self.prefix}blocks/block-{block:05d}"

    def piece_index(self, piece: int) -> str:
        return f"{self.prefix}pieces/piece-{piece:05d}.json"

    def part(self, piece: int, suffix: str) -> str:
        return f"{self.prefix}output/part-{piece:05d}{suffix}"

    def errors(self, piece: int) -> str:
        return f"{self.prefix}errors/part-{piece:05d}.jsonl"

    def predictions(self, suffix: str) -> str:
        return f"{self.prefix}predictions{suffix}"


@dataclass(frozen=True)
class StreamKeys:
    """Keys of one shard, `<stream>/<shard>`, or of one queue, by its name."""

    place: str

    @property
    def prefix(self) -> str:
        return f"streams/{self.place}/"

    def after(self, sequence: str | None) -> str:
        # A sequence number of Kinesis has up to 128 digits; 64 are more than it has had, and keys sort as numbers do.
        return f"{self.prefix}after-{(sequence or '0').zfill(64)}.jsonl"

    def of(self, digest: str) -> str:
        return f"{self.prefix}{digest}.jsonl"

    def dead(self, sequence: str) -> str:
        return f"{self.prefix}dead/{sequence}"
