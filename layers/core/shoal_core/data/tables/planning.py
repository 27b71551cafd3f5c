"""Planning a table: one streaming pass learns its columns and where it can be cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

from shoal_core.data.config import IMAGE_RECIPES, DatasetConfig, DatasetRequest, SourceFile
from shoal_core.data.cutting import MAX_ITEMS, count_items, cut_evenly
from shoal_core.data.plan import Plan, TableSlice
from shoal_core.data.spec import PreprocessingSpec
from shoal_core.data.tables.formats import TableFormat, TableRow, read_header, read_rows, sniff_table
from shoal_core.data.tables.profiling import InferredTable, TableProfile, infer_table
from shoal_core.errors import BadConfig, BadDataset
from shoal_core.store import ObjectStore

# Places to cut at that are kept per work item, so that items come out even.
_CUTS_PER_ITEM = 16


@dataclass(frozen=True)
class _Cut:
    """A place between rows: its byte, the lines before it, and the bytes up to the next such place."""

    start: int
    line: int
    weight: int


def plan_table(uploads: ObjectStore, request: DatasetRequest, file: SourceFile, name: str) -> Plan:
    """Plan one CSV or JSONL table. Raises `BadTable`, `BadDataset` or `BadConfig`."""
    _check_config(request.config)
    warnings: list[str] = []
    with uploads.open(file.key, file.version) as stream:
        form = sniff_table(stream, name)
        try:
            form, profile, cuts = _scan(stream, name, form, file.size)
        except UnicodeDecodeError:
            form = form.model_copy(update={"encoding": "cp1252"})
            form, profile, cuts = _scan(stream, name, form, file.size)
            warnings.append(f"{name!r} isn't UTF-8; it was read as Windows-1252.")
    found = infer_table(profile, name, request.config.target, request.config.task)
    if form.kind == "jsonl":
        form = form.model_copy(update={"columns": tuple(profile.columns)})
    return Plan(
        dataset=request.dataset,
        version=request.version,
        config=request.config,
        spec=found.spec,
        source=file,
        source_name=name,
        table=form,
        items=_items(cuts, profile.rows, found.spec, request.config),
        columns=found.columns,
        inferred=_inferred(found, form),
        warnings=(*warnings, *found.warnings),
    )


def _check_config(config: DatasetConfig) -> None:
    if config.image_size is not None:
        raise BadConfig("dataset.yaml: image_size: the dataset is a table.", "Remove `image_size`.")
    if config.recipe in IMAGE_RECIPES:
        raise BadConfig(
            f"dataset.yaml: recipe: {config.recipe} needs images, and the dataset is a table.",
            "Set `recipe: mlp` or `recipe: linear`.",
        )


def _scan(stream: BinaryIO, name: str, form: TableFormat, size: int) -> tuple[TableFormat, TableProfile, list[_Cut]]:
    """Read the whole table once.

    Raises:
        BadDataset: No row can be read.
        UnicodeDecodeError: The encoding is wrong.
    """
    form = read_header(stream, name, form)
    profile = TableProfile(form.columns)
    cuts: list[_Cut] = []
    step = max(1, size // (MAX_ITEMS * _CUTS_PER_ITEM))
    start = line = lines = 0
    bad: TableRow | None = None
    for row in read_rows(stream, name, form):
        if not row.code:
            profile.add(row.values)
        elif bad is None:
            bad = row
        if row.stop - start >= step:
            cuts.append(_Cut(start, line, row.stop - start))
            start, line = row.stop, row.last_line
        lines = row.last_line
    if bad is not None and not profile.rows:
        raise BadDataset(f"No row of {name!r} can be read: line {bad.line}: {bad.reason}.", bad.fix)
    if start < size or not cuts:
        cuts.append(_Cut(start, line, max(1, size - start)))
    cuts.append(_Cut(size, lines, 0))
    return form, profile, cuts


def _items(cuts: list[_Cut], rows: int, spec: PreprocessingSpec, config: DatasetConfig) -> tuple[TableSlice, ...]:
    table = spec.table
    sample_bytes = 4 * len(table.numbers) + 8 * len(table.categories) + 64 if table else 64
    weights = [cut.weight for cut in cuts[:-1]]
    pieces = count_items(rows, sum(weights), sample_bytes, config.workers)
    return tuple(
        TableSlice(start=cuts[start].start, stop=cuts[stop].start, line=cuts[start].line)
        for start, stop in cut_evenly(weights, pieces)
    )


def _inferred(found: InferredTable, form: TableFormat) -> tuple[str, ...]:
    return tuple(sorted([*found.inferred, "columns", *(["delimiter"] if form.kind == "csv" else [])]))
