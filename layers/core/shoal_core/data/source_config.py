"""The parts of `dataset.yaml` that say where data comes from: which files, another bucket, a table, and how often."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from shoal_core.data.config_types import Integer, Name
from shoal_core.data.schedules import next_due
from shoal_core.frozen import Frozen

MAX_SEGMENTS = 40
S3_URI = r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/.*)?$"
_TABLE = r"^[A-Za-z0-9_.-]{3,255}$"


def _several(value: object) -> object:
    """One pattern is a list of one."""
    return [value] if isinstance(value, str) else value


Pattern = Annotated[str, Field(min_length=1, max_length=1024, strict=True)]
Patterns = Annotated[tuple[Pattern, ...], BeforeValidator(_several), Field(min_length=1, max_length=100)]


class SourceConfig(Frozen):
    """Data that isn't uploaded: the objects under an S3 prefix, or the items of a DynamoDB table."""

    s3: Annotated[str, Field(pattern=S3_URI, max_length=1100, strict=True)] | None = None
    dynamodb: Annotated[str, Field(pattern=_TABLE, strict=True)] | None = None
    segments: Annotated[Integer, Field(ge=1, le=MAX_SEGMENTS)] | None = None
    by: Literal["scan", "export"] | None = None

    @model_validator(mode="after")
    def _one_source(self) -> SourceConfig:
        if (self.s3 is None) == (self.dynamodb is None):
            raise ValueError("name either s3 or dynamodb")
        if self.segments is not None and self.dynamodb is None:
            raise ValueError("segments go with dynamodb")
        if self.by is not None and self.dynamodb is None:
            raise ValueError("by goes with dynamodb")
        if self.segments is not None and self.by == "export":
            raise ValueError("segments go with a scan; leave them out, or set `by: scan`")
        return self

    @property
    def title(self) -> str:
        """The source in words, for messages."""
        return self.s3 if self.s3 is not None else f"DynamoDB table {self.dynamodb!r}"

    @property
    def bucket(self) -> str:
        """The bucket of an S3 prefix."""
        return (self.s3 or "").removeprefix("s3://").partition("/")[0]

    @property
    def prefix(self) -> str:
        """The S3 prefix itself, without its bucket."""
        return (self.s3 or "").removeprefix("s3://").partition("/")[2]


def _schedule(value: object) -> object:
    """An expression that can be followed: `next_due` says what is wrong with another one."""
    if isinstance(value, str):
        next_due(value, datetime(2026, 1, 1, tzinfo=UTC))
    return value


Schedule = Annotated[Name, BeforeValidator(_schedule)]
