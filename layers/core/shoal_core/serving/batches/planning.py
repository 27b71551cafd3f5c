"""`plan_batch`: pin the model's version, look at what was uploaded, and cut it into pieces."""

from __future__ import annotations

import hashlib
import math
import posixpath
from collections.abc import Sequence
from typing import Protocol

from shoal_core.data.archive_members import ARCHIVE_SUFFIXES
from shoal_core.data.config import SourceFile
from shoal_core.data.cutting import MAX_ITEMS
from shoal_core.data.plan import RowGroupSlice, TableParts, TableSlice
from shoal_core.data.requests import FileList
from shoal_core.data.spec import PreprocessingSpec
from shoal_core.data.tables.formats import TABLE_SUFFIXES, Encoding, TableFormat
from shoal_core.data.tables.partitions import partition_of
from shoal_core.data.tables.planning import join_segments
from shoal_core.data.tables.scanning import Scan, Scanner, sniff_source
from shoal_core.errors import BadDataset, BadTable, NotFound
from shoal_core.keys import ModelKeys
from shoal_core.serving.batches.counting import cut_pieces
from shoal_core.serving.batches.gathering import gather_files
from shoal_core.serving.batches.inputs import BatchUploads, pin_inputs
from shoal_core.serving.batches.plan import BatchPlan, Piece, RecordKind, read_plan
from shoal_core.serving.batches.request import BatchRequest
from shoal_core.store import ObjectStore

# Few enough that a network which takes 40 ms a record stays within a function's 15 minutes.
PIECE_ROWS = 200_000
PIECE_FILES = 8_192
# About the arithmetic of one run: enough that calling ONNX Runtime costs little, few enough that it stays in a cache.
RUN_BYTES = 512 * 1024
MAX_RUN_ROWS = 256
# Places to cut at that are kept per piece, so that pieces come out even.
_CUTS_PER_PIECE = 16
# Names of operators that take their scale from all rows of a run; they stand in the file as they are.
_MIXES_ROWS = b"DynamicQuantize"


class ModelAliases(Protocol):
    """What planning needs of the catalog."""

    def alias(self, model: str, alias: str = "production") -> int:
        """See `shoal_core.aws.model_catalog.ModelCatalog.alias`."""


def plan_batch(
    uploads: BatchUploads, artifacts: ObjectStore, catalog: ModelAliases, request: BatchRequest
) -> BatchPlan:
    """Plan a job and write `plan.json` once; a later call returns that plan.

    Args:
        uploads: Where the uploaded files are.
        artifacts: Where the model is and the plan goes.
        catalog: Tells which version is in production.
        request: What was asked for.

    Raises:
        BadInput: The upload can't be read, or isn't what the model takes; the reason names the file and the fix.
        NotFound: No such model, version or file.
    """
    if not artifacts.exists(request.keys.plan):
        plan = _plan(uploads, artifacts, catalog, request)
        artifacts.write_new(request.keys.plan, plan.encode(), "application/json")
    return read_plan(artifacts, request.keys)


def _plan(uploads: BatchUploads, artifacts: ObjectStore, catalog: ModelAliases, request: BatchRequest) -> BatchPlan:
    version = request.config.version or catalog.alias(request.model)
    spec, model, run_rows = _model(artifacts, request.model, version)
    files = pin_inputs(uploads, artifacts, request)
    kind = _kind(spec, files)
    sources: Sequence[SourceFile]
    formats: tuple[TableFormat, ...] = ()
    warnings: tuple[str, ...] = ()
    if kind in ("rows", "windows"):
        sources = [file for file in files if _is_table(file)]
        formats, warnings, pieces = _plan_tables(uploads, artifacts, request, spec, sources)
    else:
        sources, pieces = gather_files(uploads, artifacts, request, files, PIECE_FILES)
    return BatchPlan(
        model=request.model,
        job=request.job,
        version=version,
        digest=hashlib.sha256(model).hexdigest(),
        kind=kind,
        probabilities=request.config.probabilities,
        run_rows=run_rows,
        sources=tuple(sources),
        formats=formats,
        files=len(files),
        size=sum(file.size for file in files),
        pieces=pieces,
        warnings=warnings,
    )


def _model(artifacts: ObjectStore, name: str, version: int) -> tuple[PreprocessingSpec, bytes, int]:
    """What the version takes, the file that its digest is of, and how many records go into one run."""
    keys = ModelKeys(name, version)
    try:
        spec = PreprocessingSpec.decode(artifacts.read(keys.spec))
        spec.refuse_tensors()
        try:
            graph = artifacts.read(keys.onnx)
        except NotFound:
            # Models of its nodes may mix rows, and padding is cut off as far as all texts of a run have it.
            return spec, artifacts.read(keys.pipeline), 1
    except NotFound as error:
        raise NotFound(
            f"Model {name!r} has no version {version}.", f"See GET /models/{name} for those it has."
        ) from error
    return spec, graph, _run_rows(spec, graph)


def _run_rows(spec: PreprocessingSpec, graph: bytes) -> int:
    """How many records go into one run."""
    if _MIXES_ROWS in graph:
        return 1
    values = sum(math.prod(shape) for shape in spec.tensor_shapes().values())
    return max(1, min(MAX_RUN_ROWS, 1 << (RUN_BYTES // max(1, values)).bit_length() - 1))


def _kind(spec: PreprocessingSpec, files: FileList) -> RecordKind:
    """What the records are. Raises `BadDataset` when the files aren't what the model takes."""
    odd = next((file for file in files if not _is_table(file) and not _is_mark(file)), None)
    name = _name(odd or files[0])
    if spec.kind == "image":
        if odd is None:
            raise BadDataset(
                f"{name!r} is a table, and the model takes images.", "Upload images, or an archive of them."
            )
        return "images"
    if odd is None:
        return "windows" if spec.kind == "sequence" else "rows"
    if spec.table is not None and len(spec.table.names) == 1 and spec.table.texts:
        return "texts"
    if spec.kind == "sequence":
        raise BadDataset(
            f"{name!r} isn't a table, and the model takes windows of rows.",
            'Upload JSONL with one {"rows": [...]} a line, oldest row first.',
        )
    raise BadDataset(
        f"{name!r} isn't a table, and the model takes rows.",
        "Upload CSV, JSONL, JSON or Parquet (also .csv.gz and so on).",
    )


def _plan_tables(
    uploads: BatchUploads,
    artifacts: ObjectStore,
    request: BatchRequest,
    spec: PreprocessingSpec,
    files: Sequence[SourceFile],
) -> tuple[tuple[TableFormat, ...], tuple[str, ...], tuple[Piece, ...]]:
    formats, scan = _scan(uploads, artifacts, request, files)
    warnings = [warning for file, form in zip(files, formats, strict=True) for warning in _check(spec, file, form)]
    return tuple(formats), tuple(warnings[:20]), _pieces(request, scan)


def _scan(
    uploads: BatchUploads, artifacts: ObjectStore, request: BatchRequest, files: Sequence[SourceFile]
) -> tuple[list[TableFormat], Scan]:
    """Find where the tables can be cut; again from the beginning where one turns out late not to be UTF-8."""
    encodings: dict[int, Encoding] = {}
    size = sum(file.size for file in files)
    step = max(1, size // (MAX_ITEMS * _CUTS_PER_PIECE))
    while True:
        number = 0
        formats: list[TableFormat] = []
        try:
            with Scanner(uploads, artifacts, request.keys, None, step) as scanner:
                for number, file in enumerate(files):
                    form = sniff_source(uploads, file, _name(file), encodings.get(number))
                    formats.append(form)
                    scanner.add(number, file, _name(file), form)
                return formats, scanner.scan
        except UnicodeDecodeError:
            # Every byte is some character of Windows-1252, so this happens once per file.
            encodings[number] = "cp1252"


def _check(spec: PreprocessingSpec, file: SourceFile, form: TableFormat) -> list[str]:
    """Refuse a table that has nothing of what the model reads; tell what it lacks."""
    name = _name(file)
    if spec.sequence is not None:
        if form.kind in ("csv", "parquet"):
            raise BadTable(
                f"{name!r} has rows, and the model takes windows of {spec.sequence.window} rows.",
                'Upload JSONL with one {"rows": [...]} a line, oldest row first.',
            )
        return []
    if form.kind not in ("csv", "parquet") or spec.table is None:
        return []
    wanted = spec.table.names
    lacking = [column for column in wanted if column not in form.columns and column not in partition_of(name)]
    shown = ", ".join(repr(column) for column in lacking[:10]) + (" …" if len(lacking) > 10 else "")
    if len(lacking) == len(wanted):
        raise BadTable(
            f"{name!r} has none of the columns that the model reads: {shown}.",
            "Name its columns as in the data that the model was trained on: GET the model to see them.",
        )
    return [f"{name!r} has no column {shown}; it counts as missing in every row."] if lacking else []


def _pieces(request: BatchRequest, scan: Scan) -> tuple[Piece, ...]:
    """Pieces of one table each."""
    files = [segment.file for segment in scan.segments]
    weights = [segment.weight for segment in scan.segments]
    pieces: list[Piece] = []
    for start, stop in cut_pieces(request, files, weights, scan.rows, PIECE_ROWS):
        parts: tuple[TableSlice | RowGroupSlice, ...] = tuple(join_segments(scan.segments[start:stop]))
        pieces.append(parts[0] if len(parts) == 1 else TableParts(parts=parts))
    return tuple(pieces)


def _name(file: SourceFile) -> str:
    return file.name or file.key


def _is_table(file: SourceFile) -> bool:
    return _name(file).casefold().endswith(TABLE_SUFFIXES)


def _is_mark(file: SourceFile) -> bool:
    """What writers of data lakes leave beside tables, such as `_SUCCESS`, and empty files; never an archive."""
    base = posixpath.basename(_name(file))
    return (base.startswith(("_", ".")) or not file.size) and not base.casefold().endswith(ARCHIVE_SUFFIXES)
