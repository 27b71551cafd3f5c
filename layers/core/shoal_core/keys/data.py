"""Keys of datasets: their sources, versions and features."""

# ruff: noqa: D102 - the drawing in __init__.py says what is under each key

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class BlockKeys(Protocol):
    """Keys of what planning re-packed so that each worker reads its own."""

    def block(self, block: int) -> str: ...


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

    @property
    def segments(self) -> str:
        return f"{self.prefix}segments.json"

    @property
    def started(self) -> str:
        return f"{self.prefix}started.json"

    @property
    def export(self) -> str:
        return f"{self.prefix}export.json"

    @property
    def export_prefix(self) -> str:
        return f"exports/{self.dataset}/{self.source_id}"

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
    def work_items(self) -> str:
        return f"{self.prefix}work-items.json"

    @property
    def pack_items(self) -> str:
        return f"{self.prefix}pack-items.json"

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
class FeatureKeys:
    """Keys of what a backbone made of one dataset version."""

    dataset: str
    version: str
    digest: str

    @property
    def prefix(self) -> str:
        return f"datasets/{self.dataset}/{self.version}/features/{self.digest}/"

    @property
    def index(self) -> str:
        return f"{self.prefix}features.json"

    def shard_index(self, split: str, index: int) -> str:
        return f"{self.prefix}{split}/shard-{index:05d}.json"

    def shard(self, split: str, index: int, part: int) -> str:
        return f"{self.prefix}{split}/shard-{index:05d}-{part:03d}.safetensors"
