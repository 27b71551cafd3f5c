"""The plan of a dataset version: the spec, and work items small enough for one function each."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from shoal_core.data.canonical import canonical_json
from shoal_core.data.config import DatasetConfig, SourceFile
from shoal_core.data.report import ColumnReport, Drops
from shoal_core.data.spec import PreprocessingSpec
from shoal_core.data.tables.formats import TableFormat
from shoal_core.errors import BadInput


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ArchiveSlice(_Model):
    """Entries first..last (exclusive) of the archive; `offset` is the tar header where reading starts."""

    kind: Literal["archive"] = "archive"
    first: int = Field(ge=0)
    last: int = Field(ge=0)
    offset: int = Field(ge=0)


class TableSlice(_Model):
    """Bytes start..stop (exclusive) of the table, cut between rows; `line` lines lie before it."""

    kind: Literal["table"] = "table"
    start: int = Field(ge=0)
    stop: int = Field(ge=0)
    line: int = Field(ge=0)


class ObjectSlice(_Model):
    """Files first..last (exclusive) of the request's files in the order of their keys."""

    kind: Literal["objects"] = "objects"
    first: int = Field(ge=0)
    last: int = Field(ge=0)


WorkItem = Annotated[ArchiveSlice | TableSlice | ObjectSlice, Field(discriminator="kind")]


class Plan(_Model):
    """`plan.json`.

    `source` is the one archive or table; None for loose files, which are listed by `request.json`. `root` is the common
    folder of all images. `drops` is what planning itself left out.
    """

    schema_version: Literal[1] = 1
    dataset: str
    version: str
    config: DatasetConfig
    spec: PreprocessingSpec
    source: SourceFile | None = None
    source_name: str
    root: str = ""
    table: TableFormat | None = None
    items: tuple[WorkItem, ...]
    drops: Drops = Drops()
    columns: tuple[ColumnReport, ...] = ()
    inferred: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def one_source(self) -> SourceFile:
        """The one archive or table. Raises `BadInput` for a plan of loose files."""
        if self.source is None:
            raise BadInput(f"The plan of {self.dataset!r} names no source file.", "Upload the data again.")
        return self.source

    def encode(self) -> bytes:
        """The canonical bytes of `plan.json`."""
        return canonical_json(self.model_dump(mode="json"))

    @classmethod
    def decode(cls, data: bytes) -> Plan:
        """Read `plan.json`. Raises `BadInput` when it isn't one."""
        try:
            return cls.model_validate_json(data)
        except ValueError as error:
            raise BadInput(f"The plan can't be read: {error}.", "Upload the data again.") from error
