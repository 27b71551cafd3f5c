"""The report of a dataset version: what was kept, what was dropped and why, and every setting that was inferred."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol

from pydantic import Field

from shoal_core.data.canonical import canonical_json
from shoal_core.data.config_types import Split, Task
from shoal_core.data.quality.findings import (
    MAX_EXAMPLE_TEXT,
    ColumnFlag,
    Distribution,
    DriftReport,
    ExpectationReport,
    NearDuplicatesReport,
    QuarantineReport,
)
from shoal_core.errors import BadInput
from shoal_core.frozen import Frozen

MAX_EXAMPLES = 1000
# What is told per file and per observation has room for this many names; the rest are counted under "".
MAX_NAMES = 1000


class Drop(Frozen):
    """One sample that was left out: where it is, why (a code and a sentence), and what to do about it."""

    file: str
    place: str
    code: str
    reason: str
    fix: str = ""


class Drops(Frozen):
    """What was left out: how often for which reason, with the first few as examples; `ignored` are junk files.

    `files` counts by file and reason, for the first `MAX_NAMES` files, and `encoded` what wasn't left out. `observed`
    counts what the sources were like, kept samples included: observation (`size`, `mode`, `format` of images) -> value
    -> samples.
    """

    counts: dict[str, int] = Field(default={})
    examples: tuple[Drop, ...] = ()
    ignored: int = 0
    files: dict[str, dict[str, int]] = Field(default={})
    encoded: dict[str, int] = Field(default={})
    observed: dict[str, dict[str, int]] = Field(default={})

    @property
    def total(self) -> int:
        """Samples left out, junk not counted."""
        return sum(self.counts.values())


class RawSamples(Protocol):
    """Takes what was left out, to be kept for a later replay."""

    @property
    def full(self) -> bool:
        """Whether no more samples are kept."""

    def leave_out(self, count: int) -> None:
        """Count samples that aren't kept."""

    def keep(self, drop: Drop, raw: bytes | None) -> None:
        """Take one sample: why it was left out, and its own bytes where they are known."""


class RowChecks(Protocol):
    """Takes raw rows and checks what is expected of them: see `quality.expectations.CheckTally`."""

    @property
    def columns(self) -> Collection[str]:
        """Names of the columns that something is expected of."""

    def add(self, file: str, columns: Mapping[str, Any], places: Sequence[object]) -> None:
        """Check a batch of rows, given by column, with the place of each."""


class DropTally:
    """Counts drops and keeps the first `MAX_EXAMPLES` of them, so its memory is bounded.

    Args:
        quarantine: Takes every dropped sample; None keeps none.
        checks: Takes every row as it was read; None where nothing is expected of rows.
    """

    def __init__(self, quarantine: RawSamples | None = None, checks: RowChecks | None = None) -> None:
        self.checks = checks
        self._counts: dict[str, int] = {}
        self._examples: list[Drop] = []
        self._files: dict[str, dict[str, int]] = {}
        self._encoded: dict[str, int] = {}
        self._observed: dict[str, dict[str, int]] = {}
        self._quarantine = quarantine
        self.ignored = 0

    def add(self, file: str, place: str, code: str, reason: str, fix: str = "", *, raw: bytes | None = None) -> None:
        """Count one drop. `raw` is the sample itself (an image file's bytes, a row's text), for the quarantine."""
        if self.full:
            self.count(file, code)
            return
        self._counts[code] = self._counts.get(code, 0) + 1
        self._count_file(file, code, 1)
        drop = _drop(file, place, code, reason, fix)
        if len(self._examples) < MAX_EXAMPLES:
            self._examples.append(drop)
        if self._quarantine is not None:
            self._quarantine.keep(drop, raw)

    @property
    def full(self) -> bool:
        """Whether drops are only counted from here on, so that nobody asks where and why they were."""
        return len(self._examples) >= MAX_EXAMPLES and (self._quarantine is None or self._quarantine.full)

    def count(self, file: str, code: str, times: int = 1) -> None:
        """Count drops without telling of them; for when the tally is `full`."""
        self._counts[code] = self._counts.get(code, 0) + times
        self._count_file(file, code, times)
        if self._quarantine is not None:
            self._quarantine.leave_out(times)

    def encode(self, file: str, count: int) -> None:
        """Count samples of a file that weren't left out."""
        name = _room(self._encoded, file)
        self._encoded[name] = self._encoded.get(name, 0) + count

    def observe(self, what: str, value: str, count: int = 1) -> None:
        """Count what sources were like, for example `size` and `28 x 28`."""
        self._count_observed(what, value, count)

    def show(self, file: str, place: str, code: str, reason: str, fix: str = "") -> None:
        """Give one drop as an example without counting it."""
        if len(self._examples) < MAX_EXAMPLES:
            self._examples.append(_drop(file, place, code, reason, fix))

    def extend(self, drops: Drops) -> None:
        """Add what was counted elsewhere."""
        for code, count in drops.counts.items():
            self._counts[code] = self._counts.get(code, 0) + count
        for name, counts in drops.files.items():
            for code, count in counts.items():
                self._count_file(name, code, count)
        for name, count in drops.encoded.items():
            self.encode(name, count)
        for what, values in drops.observed.items():
            for value, count in values.items():
                self._count_observed(what, value, count)
        self._examples = [*self._examples, *drops.examples][:MAX_EXAMPLES]
        self.ignored += drops.ignored

    def total(self) -> Drops:
        """What was counted so far."""
        return Drops(
            counts=dict(sorted(self._counts.items())),
            examples=tuple(self._examples),
            ignored=self.ignored,
            files=self._files,
            encoded=self._encoded,
            observed=self._observed,
        )

    def _count_file(self, name: str, code: str, count: int) -> None:
        counts = self._files.setdefault(_room(self._files, name), {})
        counts[code] = counts.get(code, 0) + count

    def _count_observed(self, what: str, value: str, count: int) -> None:
        values = self._observed.setdefault(what, {})
        name = _room(values, value)
        values[name] = values.get(name, 0) + count


def _room(names: Collection[str], name: str) -> str:
    return name if name in names or len(names) < MAX_NAMES else ""


def _drop(file: str, place: str, code: str, reason: str, fix: str) -> Drop:
    return Drop(
        file=file[:MAX_EXAMPLE_TEXT],
        place=place[:MAX_EXAMPLE_TEXT],
        code=code[:MAX_EXAMPLE_TEXT],
        reason=reason[:MAX_EXAMPLE_TEXT],
        fix=fix[:MAX_EXAMPLE_TEXT],
    )


class ColumnReport(Frozen):
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


class FileReport(Frozen):
    """One uploaded file (or all loose files together): samples kept and dropped, by reason.

    Of several files, `kept` counts samples before duplicates are left out, since an equal one may be in another file.
    """

    file: str
    kept: int = Field(ge=0)
    dropped: dict[str, int] = Field(default={})
    ignored: int = Field(ge=0, default=0)


class Report(Frozen):
    """`report.json`.

    `settings` are the values in force, `inferred` the names of those that nobody asked for. `duplicates` are samples
    left out since an equal one was kept. `distributions`, `samples` and `class_counts` are of what was kept; the first
    are of the training split. `sources` counts what the uploaded images were like (`size`, `mode`, `format`).
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
    class_counts: dict[Split, dict[str, int]] = Field(default={})
    warnings: tuple[str, ...] = ()
    expectations: tuple[ExpectationReport, ...] = ()
    quarantine: QuarantineReport = QuarantineReport()
    distributions: tuple[Distribution, ...] = ()
    flags: tuple[ColumnFlag, ...] = ()
    near_duplicates: NearDuplicatesReport | None = None
    sources: dict[str, dict[str, int]] = Field(default={})
    drift: DriftReport | None = None

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


def file_reports(name: str, drops: Drops, counts: dict[str, int], kept: int) -> tuple[FileReport, ...]:
    """What came of each file: of one as a whole, of several one by one.

    Args:
        name: What the upload is called.
        drops: What work items left out and kept, by file.
        counts: What was left out of all files together, duplicates too.
        kept: Samples left of all files together.
    """
    names = sorted({*drops.files, *drops.encoded})
    if len(names) < 2:
        return (FileReport(file=name, kept=kept, dropped=counts, ignored=drops.ignored),)
    return tuple(
        FileReport(file=file or "(more files)", kept=drops.encoded.get(file, 0), dropped=drops.files.get(file, {}))
        for file in names
    )


def describe_drops(drops: Drops, limit: int = 3) -> str:
    """The most frequent reasons in one line, with an example each, for error messages."""
    common = sorted(drops.counts.items(), key=lambda entry: (-entry[1], entry[0]))[:limit]
    return "; ".join(f"{count:,} {code.replace('_', ' ')}{_example(drops.examples, code)}" for code, count in common)


def _example(examples: Iterable[Drop], code: str) -> str:
    found = next((drop for drop in examples if drop.code == code), None)
    return f" (for example {found.place}: {found.reason.rstrip('.')})" if found else ""
