"""The plan of a batch job: which version of the model answers, and the pieces that its workers take."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from shoal_core.data.canonical import canonical_json
from shoal_core.data.config import SourceFile
from shoal_core.data.plan import ArchiveSlice, ObjectSlice, RowGroupSlice, TableParts, TableSlice
from shoal_core.data.tables.formats import TableFormat
from shoal_core.errors import BadInput
from shoal_core.frozen import Frozen
from shoal_core.keys import BatchKeys
from shoal_core.store import ObjectStore

RecordKind = Literal["rows", "windows", "images", "texts"]
"""What a record is: a row of a table, a window of rows (one JSON object), an image file, a text file."""
OutputKind = Literal["csv", "jsonl", "json", "parquet"]
Piece = Annotated[ArchiveSlice | TableSlice | RowGroupSlice | TableParts | ObjectSlice, Field(discriminator="kind")]


class BatchPlan(Frozen):
    """`plan.json`.

    `version` and `digest` (sha256 of its model.onnx or pipeline.json) are pinned here, so that a switch midway mixes
    nothing. `sources` are the tables or archives, `formats` how each table is read; `inputs.json` lists loose files.
    `run_rows` is how many records one run of the model takes: always that many, so that what is answered of a record
    doesn't depend on how many others came with it.
    """

    schema_version: Literal[1] = 1
    model: str
    job: str
    version: int
    digest: str
    kind: RecordKind
    probabilities: Literal["best", "all"] = "best"
    run_rows: int = Field(ge=1)
    sources: tuple[SourceFile, ...] = ()
    formats: tuple[TableFormat, ...] = ()
    files: int = Field(ge=1)
    size: int = Field(ge=0)
    pieces: tuple[Piece, ...]
    warnings: tuple[str, ...] = ()

    @property
    def keys(self) -> BatchKeys:
        """Where the job is kept."""
        return BatchKeys(self.model, self.job)

    def file_of(self, piece: Piece) -> int:
        """The number of the table that a piece of rows lies in."""
        first = piece.parts[0] if isinstance(piece, TableParts) else piece
        return first.file if isinstance(first, TableSlice | RowGroupSlice | ArchiveSlice) else 0

    def form_of(self, piece: Piece) -> TableFormat | None:
        """The format of the table that a piece lies in; None for files."""
        return self.formats[self.file_of(piece)] if self.formats else None

    def suffix_of(self, piece: Piece) -> str:
        """How the name of a piece's output ends: as its table's does, `.jsonl` for files."""
        form = self.form_of(piece)
        if form is None:
            return ".jsonl"
        kind = ".tsv" if form.kind == "csv" and form.delimiter == "\t" else f".{form.kind}"
        return kind + {"gzip": ".gz", "zstd": ".zst", None: ""}[form.packing]

    def encode(self) -> bytes:
        """The canonical bytes of `plan.json`."""
        return canonical_json(self.model_dump(mode="json"))


def read_plan(artifacts: ObjectStore, keys: BatchKeys) -> BatchPlan:
    """The plan of a job. Raises `NotFound`, or `BadInput` when it can't be read."""
    try:
        return BatchPlan.model_validate_json(artifacts.read(keys.plan))
    except ValueError as error:
        raise BadInput(f"The plan {keys.plan!r} can't be read: {error}.", "Upload the data again.") from error
