"""The report of a dataset version: what was kept, what was dropped and why, and every setting that was inferred."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from shoal_core.data.canonical import canonical_json
from shoal_core.data.config_types import Split, Task
from shoal_core.errors import BadInput

MAX_EXAMPLES = 1000
MAX_EXAMPLE_TEXT = 300


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Drop(_Model):
    """One sample that was left out: where it is, why (a code and a sentence), and what to do about it."""

    file: str
    place: str
    code: str
    reason: str
    fix: str = ""


class Drops(_Model):
    """What was left out: how often for which reason, with the first few as examples; `ignored` are junk files."""

    counts: dict[str, int] = {}
    examples: tuple[Drop, ...] = ()
    ignored: int = 0

    @property
    def total(self) -> int:
        """Samples left out, junk not counted."""
        return sum(self.counts.values())


class DropTally:
    """Counts drops and keeps the first `MAX_EXAMPLES` of them, so its memory is bounded."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._examples: list[Drop] = []
        self.ignored = 0

    def add(self, file: str, place: str, code: str, reason: str, fix: str = "") -> None:
        """Count one drop."""
        self._counts[code] = self._counts.get(code, 0) + 1
        self.show(file, place, code, reason, fix)

    def show(self, file: str, place: str, code: str, reason: str, fix: str = "") -> None:
        """Give one drop as an example without counting it."""
        if len(self._examples) < MAX_EXAMPLES:
            texts = (text[:MAX_EXAMPLE_TEXT] for text in (file, place, code, reason, fix))
            names = ("file", "place", "code", "reason", "fix")
            self._examples.append(Drop(**dict(zip(names, texts, strict=True))))

    def extend(self, drops: Drops) -> None:
        """Add what was counted elsewhere."""
        for code, count in drops.counts.items():
            self._counts[code] = self._counts.get(code, 0) + count
        self._examples = [*self._examples, *drops.examples][:MAX_EXAMPLES]
        self.ignored += drops.ignored

    def total(self) -> Drops:
        """What was counted so far."""
        return Drops(counts=dict(sorted(self._counts.items())), examples=tuple(self._examples), ignored=self.ignored)


class ColumnReport(_Model):
    """One column of a table.

    `distinct` counts values that aren't missing; where there are more than the planning pass keeps, it is a lower bound
    and `distinct_exact` is false. `reason` tells why a dropped column was dropped.
    """

    name: str
    role: Literal["number", "category", "date", "text", "target", "group", "time", "dropped"]
    type: Literal["number", "category", "boolean", "date", "text", "nested", "empty"]
    missing: int = Field(ge=0)
    distinct: int = Field(ge=0)
    distinct_exact: bool = True
    reason: str = ""


class FileReport(_Model):
    """One uploaded file (or all loose files together): samples kept and dropped, by reason."""

    file: str
    kept: int = Field(ge=0)
    dropped: dict[str, int] = {}
    ignored: int = Field(ge=0, default=0)


class Report(_Model):
    """`report.json`.

    `settings` are the values in force, `inferred` the names of those that nobody asked for. `duplicates` are samples
    left out since an equal one was kept.
    """

    schema_version: Literal[1] = 1
    dataset: str
    version: str
    kind: Literal["image", "table", "sequence"]
    task: Task
    files: tuple[FileReport, ...]
    kept: int
    dropped: int
    duplicates: int
    drops: Drops
    settings: dict[str, str | int | float | list[int] | list[str] | None]
    inferred: tuple[str, ...]
    columns: tuple[ColumnReport, ...] = ()
    samples: dict[Split, int]
    class_counts: dict[Split, dict[str, int]] = {}
    warnings: tuple[str, ...] = ()

    def encode(self) -> bytes:
        """The canonical bytes of `report.json`."""
        return canonical_json(self.model_dump(mode="json"))

    @classmethod
    def decode(cls, data: bytes) -> Report:
        """Read `report.json`. Raises `BadInput` when it isn't one."""
        try:
            return cls.model_validate_json(data)
        except ValueError as error:
            raise BadInput(f"The report can't be read: {error}.", "Upload the data again.") from error


def describe_drops(drops: Drops, limit: int = 3) -> str:
    """The most frequent reasons in one line, with an example each, for error messages."""
    common = sorted(drops.counts.items(), key=lambda entry: (-entry[1], entry[0]))[:limit]
    return "; ".join(f"{count:,} {code.replace('_', ' ')}{_example(drops.examples, code)}" for code, count in common)


def _example(examples: Iterable[Drop], code: str) -> str:
    found = next((drop for drop in examples if drop.code == code), None)
    return f" (for example {found.place}: {found.reason.rstrip('.')})" if found else ""
