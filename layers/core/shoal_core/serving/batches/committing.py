"""`commit_batch`: one file of all parts where that is possible, and the manifest last."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from pydantic import Field

from shoal_core.data.canonical import canonical_json
from shoal_core.data.plan import RowGroupSlice
from shoal_core.data.spec import PreprocessingSpec
from shoal_core.errors import BadInput, NotFound
from shoal_core.frozen import Frozen
from shoal_core.keys import BatchKeys, ModelKeys
from shoal_core.serving.batches.framing import Frame
from shoal_core.serving.batches.parquet_output import joined_footer
from shoal_core.serving.batches.plan import BatchPlan, read_plan
from shoal_core.serving.batches.tally import Counted, ErrorEntry, PieceIndex
from shoal_core.store import StreamStore

MAX_MERGED_BYTES = 16 * 1024**3
_CHUNK = 8 * 1024**2
_SHOWN = 20


class OutputFile(Frozen):
    """One output: its key within the job's folder, and what it holds. `input` is the file that its records are of.

    `delimiter` and `quote` are how CSV is written; empty for anything else.
    """

    key: str
    input: str = ""
    records: int
    errors: int
    size: int
    sha256: str
    delimiter: str = ""
    quote: str = ""


class ModelUsed(Frozen):
    """The version that answered, and what it takes and gives."""

    name: str
    version: int
    digest: str
    signature: dict[str, Any]


class InputFile(Frozen):
    """One file that was read; of jobs of more than 100, the first."""

    name: str
    size: int


class BatchManifest(Frozen):
    """`manifest.json`: what a job has made.

    `digest` is the sha256 of everything but the job's name and `usage`: equal for jobs of the same files and version.
    """

    schema_version: Literal[1] = 1
    job: str
    model: ModelUsed
    inputs: tuple[InputFile, ...]
    files: int
    input_bytes: int
    records: int
    errors: int
    codes: dict[str, int]
    shown: tuple[ErrorEntry, ...]
    parts: tuple[OutputFile, ...]
    predictions: OutputFile | None
    warnings: tuple[str, ...] = ()
    digest: str = ""
    usage: dict[str, Any] = Field(default={})

    def encode(self) -> bytes:
        """The canonical bytes of `manifest.json`."""
        return canonical_json(self.model_dump(mode="json"))

    def own_digest(self) -> str:
        """What `digest` has to be."""
        return hashlib.sha256(
            canonical_json(self.model_dump(mode="json", exclude={"job", "usage", "digest"}))
        ).hexdigest()


def read_manifest(artifacts: StreamStore, keys: BatchKeys) -> BatchManifest:
    """The manifest of a job. Raises `NotFound`, or `BadInput` when it can't be read."""
    try:
        return BatchManifest.model_validate_json(artifacts.read(keys.manifest))
    except ValueError as error:
        raise BadInput(f"The manifest {keys.manifest!r} can't be read: {error}.", "Upload the data again.") from error


def commit_batch(artifacts: StreamStore, keys: BatchKeys, usage: dict[str, Any]) -> BatchManifest:
    """Join the parts and write `manifest.json` once; a later call returns that manifest.

    Args:
        artifacts: Where plan, parts and indexes are.
        keys: The job's.
        usage: Time and cost so far; no part of the digest.

    Raises:
        NotFound: A piece hasn't been answered.
    """
    if not artifacts.exists(keys.manifest):
        plan = read_plan(artifacts, keys)
        indexes = [_index(artifacts, keys, piece) for piece in range(len(plan.pieces))]
        manifest = _manifest(artifacts, plan, indexes, usage)
        data = manifest.model_copy(update={"digest": manifest.own_digest()}).encode()
        artifacts.write_new(keys.manifest, data, "application/json")
    return read_manifest(artifacts, keys)


def _index(artifacts: StreamStore, keys: BatchKeys, piece: int) -> PieceIndex:
    try:
        return PieceIndex.decode(artifacts.read(keys.piece_index(piece)))
    except NotFound as error:
        raise NotFound(f"Piece {piece} of job {keys.job!r} hasn't been answered.", "Upload the data again.") from error


def _manifest(
    artifacts: StreamStore, plan: BatchPlan, indexes: Sequence[PieceIndex], usage: dict[str, Any]
) -> BatchManifest:
    codes: Counter[str] = Counter()
    for index in indexes:
        codes.update(index.codes)
    shown = [entry for index in indexes for entry in index.shown]
    return BatchManifest(
        job=plan.job,
        model=ModelUsed(
            name=plan.model, version=plan.version, digest=plan.digest, signature=_signature(artifacts, plan)
        ),
        inputs=tuple(InputFile(name=file.name or file.key, size=file.size) for file in plan.sources[:100]),
        files=plan.files,
        input_bytes=plan.size,
        records=sum(index.records for index in indexes),
        errors=sum(index.errors for index in indexes),
        codes=dict(sorted(codes.items())),
        shown=tuple(shown[:_SHOWN]),
        parts=tuple(_output(plan, index) for index in indexes),
        predictions=_joined(artifacts, plan, indexes),
        warnings=plan.warnings,
        usage=usage,
    )


def _signature(artifacts: StreamStore, plan: BatchPlan) -> dict[str, Any]:
    spec = PreprocessingSpec.decode(artifacts.read(ModelKeys(plan.model, plan.version).spec))
    inputs = {name: list(shape) for name, shape in spec.tensor_shapes().items()}
    columns = list(spec.table.names) if spec.table else list(spec.sequence.names) if spec.sequence else []
    return {"kind": spec.kind, "task": spec.target.task, "inputs": inputs, "columns": columns}


def _output(plan: BatchPlan, index: PieceIndex) -> OutputFile:
    piece = plan.pieces[index.piece]
    source = plan.sources[plan.file_of(piece)] if plan.formats else None
    return OutputFile(
        key=index.key.removeprefix(plan.keys.prefix),
        input=(source.name or source.key) if source else "",
        records=index.records,
        errors=index.errors,
        size=index.size,
        sha256=index.sha256,
        **_style(plan, index),
    )


def _style(plan: BatchPlan, index: PieceIndex) -> dict[str, str]:
    """How the CSV of a piece is written: as its input was."""
    form = plan.form_of(plan.pieces[index.piece])
    return {"delimiter": form.delimiter, "quote": form.quote} if form is not None and form.kind == "csv" else {}


def _joined(artifacts: StreamStore, plan: BatchPlan, indexes: Sequence[PieceIndex]) -> OutputFile | None:
    """All parts as one file; None where they are of several tables, or too large together."""
    if len(plan.formats) > 1 or sum(index.size for index in indexes) > MAX_MERGED_BYTES:
        return None
    key = plan.keys.predictions(plan.suffix_of(plan.pieces[0]))
    counted = Counted(_join(artifacts, plan, indexes))
    artifacts.write_stream(key, counted, "application/octet-stream")
    return OutputFile(
        key=key.removeprefix(plan.keys.prefix),
        input=plan.sources[0].name or "" if plan.formats else "",
        records=sum(index.records for index in indexes),
        errors=sum(index.errors for index in indexes),
        size=counted.size,
        sha256=counted.sha256,
        **_style(plan, indexes[0]),
    )


def _join(artifacts: StreamStore, plan: BatchPlan, indexes: Sequence[PieceIndex]) -> Iterator[bytes]:
    first, separator = indexes[0], b""
    form = plan.form_of(plan.pieces[0])
    between = Frame(packing=form.packing).pack(b",\n") if form is not None and form.kind == "json" else b""
    yield artifacts.read_range(first.key, 0, first.head) if first.head else b""
    for index in indexes:
        start, stop = index.head, index.size - index.tail
        if start < stop:
            yield separator
            separator = between
        for place in range(start, stop, _CHUNK):
            yield artifacts.read_range(index.key, place, min(stop, place + _CHUNK))
    if isinstance(plan.pieces[0], RowGroupSlice):
        ends = [(index.size, artifacts.read_range(index.key, index.size - index.tail, index.size)) for index in indexes]
        yield joined_footer(ends)
    elif first.tail:
        yield artifacts.read_range(first.key, first.size - first.tail, first.size)
