"""The plan of a dataset version: the spec, and work items small enough for one function each."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field

from shoal_core.data.canonical import canonical_json
from shoal_core.data.config import DatasetConfig, SourceFile
from shoal_core.data.report import ColumnReport, Drops
from shoal_core.data.spec import DateColumn, PreprocessingSpec
from shoal_core.data.tables.formats import TableFormat
from shoal_core.errors import BadInput
from shoal_core.frozen import Frozen


class ArchiveSlice(Frozen):
    """Entries first..last (exclusive) of an archive, `file` being its number among the plan's sources.

    `offset` is where reading starts: a header of a tar, an entry of a zip's directory. With `block`, planning re-packed
    the archive's images: the slice begins at the header at `offset` of that block, and first and last count images.
    """

    kind: Literal["archive"] = "archive"
    file: int = Field(default=0, ge=0)
    block: int | None = Field(default=None, ge=0)
    first: int = Field(ge=0)
    last: int = Field(ge=0)
    offset: int = Field(ge=0)


class TableSlice(Frozen):
    """Bytes start..stop (exclusive) of a table, cut between rows; `line` lines lie before it.

    `file` is its number among the plan's sources. With `block`, planning wrote the table as blocks that can be read
    alone, and the bytes are those of that block.
    """

    kind: Literal["table"] = "table"
    file: int = Field(default=0, ge=0)
    block: int | None = Field(default=None, ge=0)
    start: int = Field(ge=0)
    stop: int = Field(ge=0)
    line: int = Field(ge=0)


class RowGroupSlice(Frozen):
    """Row groups first..last (exclusive) of a Parquet file; `row` rows lie before them."""

    kind: Literal["row_groups"] = "row_groups"
    file: int = Field(default=0, ge=0)
    first: int = Field(ge=0)
    last: int = Field(ge=0)
    row: int = Field(ge=0)


class TableParts(Frozen):
    """Parts of several files, or of several blocks of one, in order."""

    kind: Literal["table_parts"] = "table_parts"
    parts: tuple[Annotated[TableSlice | RowGroupSlice, Field(discriminator="kind")], ...]


class TableFile(Frozen):
    """How to read one of several tables: its name, its format among the plan's, and the keys of its partition."""

    name: str
    form: int = Field(ge=0)
    size: int = Field(default=0, ge=0)
    partition: dict[str, str | None] = Field(default={})


class SequenceSlice(Frozen):
    """The series whose ids fall in buckets first..last (exclusive) by their hash, of `Plan.reads`.

    Of each series' windows it takes part `part` of `parts` runs of neighbours.
    """

    kind: Literal["sequence"] = "sequence"
    first: int = Field(ge=0)
    last: int = Field(ge=0)
    part: int = Field(default=0, ge=0)
    parts: int = Field(default=1, ge=1)


class ObjectSlice(Frozen):
    """Files first..last (exclusive) of the request's files in the order of their keys."""

    kind: Literal["objects"] = "objects"
    first: int = Field(ge=0)
    last: int = Field(ge=0)


WorkItem = Annotated[
    ArchiveSlice | TableSlice | RowGroupSlice | TableParts | SequenceSlice | ObjectSlice, Field(discriminator="kind")
]


class Plan(Frozen):
    """`plan.json`.

    `source` is the one archive or table; `sources` are all of them where there are several. Loose files are listed by
    `request.json`. `root` is the common folder of all images, `folders` are where the members of each archive lie in
    the set, and `labelled` says that images have their targets under `DatasetKeys.item_labels`, not from folders.
    `drops` is what planning itself left out. `table` is the format of the one table, or of the first; `tables` and
    `formats` say how to read each of `sources`. `time` is how the column of `split.time` (or `sequence.time`) is read
    as dates, None for numbers. Of sequences, `reads` are the parts of the tables, all of which each item reads, and
    `cuts` are the times at which validation and test begin where windows are split by time (None: there is none).
    """

    schema_version: Literal[1] = 1
    dataset: str
    version: str
    config: DatasetConfig
    spec: PreprocessingSpec
    source: SourceFile | None = None
    sources: tuple[SourceFile, ...] = ()
    source_name: str
    root: str = ""
    folders: tuple[str, ...] = ()
    labelled: bool = False
    table: TableFormat | None = None
    formats: tuple[TableFormat, ...] = ()
    tables: tuple[TableFile, ...] = ()
    time: DateColumn | None = None
    cuts: tuple[float | None, float | None] | None = None
    reads: tuple[TableSlice | RowGroupSlice | TableParts, ...] = ()
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

    @property
    def time_cuts(self) -> tuple[float, float] | None:
        """`cuts` with infinity for what there isn't; None where the samples' own times decide."""
        if self.cuts is None:
            return None
        first, second = (math.inf if cut is None else cut for cut in self.cuts)
        return first, second

    @property
    def archives(self) -> tuple[SourceFile, ...]:
        """The archives that `ArchiveSlice.file` counts."""
        return self.sources or ((self.source,) if self.source else ())

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
