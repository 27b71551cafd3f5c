"""Planning tables: one streaming pass learns their columns and where they can be cut."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Sequence

from shoal_core.data.config import IMAGE_RECIPES, DatasetConfig, DatasetRequest, SourceFile
from shoal_core.data.cutting import MAX_ITEMS, check_scanned, count_items, cut_evenly
from shoal_core.data.plan import Plan, RowGroupSlice, TableFile, TableParts, TableSlice
from shoal_core.data.requests import relative_name
from shoal_core.data.sequences.inference import infer_sequence
from shoal_core.data.spec import DateColumn, PreprocessingSpec
from shoal_core.data.tables.formats import Encoding, TableFormat
from shoal_core.data.tables.inference import InferredTable, infer_table
from shoal_core.data.tables.partitions import partition_of
from shoal_core.data.tables.profiling import TableProfile
from shoal_core.data.tables.scanning import Scan, Scanner, Segment, plain_form, sniff_source
from shoal_core.errors import BadConfig, BadDataset
from shoal_core.keys import DatasetKeys
from shoal_core.store import ObjectStore

# Places to cut at that are kept per work item, so that items come out even.
_CUTS_PER_ITEM = 16
_MAX_TOLD = 20


def plan_tables(
    uploads: ObjectStore, artifacts: ObjectStore, request: DatasetRequest, files: Sequence[SourceFile]
) -> Plan:
    """Plan tables that are one dataset: one file, several, or a partitioned prefix.

    Their columns are joined by name; where a file lacks one, its rows' values are missing.

    Raises:
        BadTable: A file can't be read.
        BadDataset: Nothing can be learnt from them.
        BadConfig: Settings that their columns don't allow.
    """
    config = request.config
    check_table_config(config)
    check_scanned(sum(file.size for file in files if not file.key.casefold().endswith(".parquet")))
    names = [relative_name(file, request.dataset) for file in files]
    name = names[0] if len(files) == 1 else _common_name(names, request.dataset)
    forms, scan = _scan(uploads, artifacts, request, files, names)
    if scan.bad is not None and not scan.profile.rows:
        unit = forms[0].unit
        raise BadDataset(f"No row of {name!r} can be read: {unit} {scan.bad.line}: {scan.bad.reason}.", scan.bad.fix)
    infer = infer_table if config.sequence is None else infer_sequence
    found = infer(scan.profile, name, config)
    forms = [_with_columns(form, scan.profile) for form in forms]
    kinds = tuple(dict.fromkeys(plain_form(form) if not form.divisible else form for form in forms))
    warnings = (*_encoding_warnings(forms, names), *_column_warnings(forms, names), *found.warnings)
    tables = tuple(
        TableFile(
            name=each,
            form=kinds.index(form if form.divisible else plain_form(form)),
            size=file.size,
            partition=partition_of(each),
        )
        for each, form, file in zip(names, forms, files, strict=True)
    )
    return Plan(
        dataset=request.dataset,
        version=request.version,
        config=config,
        spec=found.spec,
        source=files[0] if len(files) == 1 else None,
        sources=tuple(files) if len(files) > 1 else (),
        source_name=name,
        table=forms[0],
        formats=kinds,
        tables=tables,
        time=_time_column(scan.profile, config, name),
        items=_items(scan, found.spec, config),
        columns=found.columns,
        inferred=_inferred(found, forms),
        warnings=warnings,
    )


def check_table_config(config: DatasetConfig) -> None:
    """Refuse settings of images. Raises `BadConfig`."""
    if config.image_size is not None:
        raise BadConfig("dataset.yaml: image_size: the dataset is a table.", "Remove `image_size`.")
    if config.recipe in IMAGE_RECIPES:
        raise BadConfig(
            f"dataset.yaml: recipe: {config.recipe} needs images, and the dataset is a table.",
            "Set `recipe: mlp` or `recipe: linear`.",
        )


def _scan(
    uploads: ObjectStore,
    artifacts: ObjectStore,
    request: DatasetRequest,
    files: Sequence[SourceFile],
    names: Sequence[str],
) -> tuple[list[TableFormat], Scan]:
    """Read everything once; again from the beginning where a file turns out late not to be UTF-8."""
    encodings: dict[int, Encoding] = {}
    keys = DatasetKeys(request.dataset, request.version)
    config = request.config
    texts = frozenset(column for column, settings in config.columns.items() if settings.type == "text")
    step = max(1, sum(file.size for file in files) // (MAX_ITEMS * _CUTS_PER_ITEM))
    while True:
        number = 0
        forms: list[TableFormat] = []
        profile = TableProfile((), config.text, texts)
        try:
            with Scanner(uploads, artifacts, keys, profile, step, config.target) as scanner:
                for number, (file, name) in enumerate(zip(files, names, strict=True)):
                    form = sniff_source(uploads, file, name, encodings.get(number))
                    _check_same(form, name, forms, names)
                    forms.append(form)
                    scanner.add(number, file, name, form)
                return forms, scanner.scan
        except UnicodeDecodeError:
            # Every byte is some character of Windows-1252, so this happens once per file.
            encodings[number] = "cp1252"


def _check_same(form: TableFormat, name: str, forms: Sequence[TableFormat], names: Sequence[str]) -> None:
    """Refuse a table that has nothing in common with the first."""
    if not forms or not form.columns or not forms[0].columns:
        return
    if not set(form.columns) & set(forms[0].columns):
        raise BadDataset(
            f"{name!r} and {names[0]!r} have no column in common.",
            "Upload tables of one kind as one dataset, and others under another name.",
        )


def _with_columns(form: TableFormat, profile: TableProfile) -> TableFormat:
    """JSON's columns are the keys of all rows, known only at the end."""
    return form if form.columns else form.model_copy(update={"columns": tuple(profile.columns)})


def _items(
    scan: Scan, spec: PreprocessingSpec, config: DatasetConfig
) -> tuple[TableSlice | RowGroupSlice | TableParts, ...]:
    shapes = spec.tensor_shapes()
    # Windows are cut by `sequences.planning`, whose items read all of these.
    widths = {"numbers": 4, "categories": 8, "tokens": 4, "sequence": 0}
    sample_bytes = 64 + sum(widths[name] * shape[0] for name, shape in shapes.items())
    weights = [segment.weight for segment in scan.segments]
    pieces = count_items(scan.profile.rows, sum(weights), sample_bytes, config.workers)
    items: list[TableSlice | RowGroupSlice | TableParts] = []
    for start, stop in cut_evenly(weights, pieces):
        parts = tuple(join_segments(scan.segments[start:stop]))
        items.append(parts[0] if len(parts) == 1 else TableParts(parts=parts))
    return tuple(items)


def join_segments(segments: Sequence[Segment]) -> Iterable[TableSlice | RowGroupSlice]:
    """Neighbouring segments as few parts."""
    first = last = segments[0]
    for segment in (*segments[1:], None):
        if (
            segment is not None
            and (segment.file, segment.block, segment.start) == (first.file, first.block, last.stop)
            and segment.row_groups == first.row_groups
        ):
            last = segment
            continue
        if first.row_groups:
            yield RowGroupSlice(file=first.file, first=first.start, last=last.stop, row=first.line)
        else:
            yield TableSlice(file=first.file, block=first.block, start=first.start, stop=last.stop, line=first.line)
        if segment is not None:
            first = last = segment


def _time_column(profile: TableProfile, config: DatasetConfig, name: str) -> DateColumn | None:
    setting, wanted = ("sequence.time", config.sequence.time) if config.sequence else ("split.time", config.split.time)
    return None if wanted is None else time_column(profile, setting, wanted, name)


def time_column(profile: TableProfile, setting: str, wanted: str, name: str) -> DateColumn | None:
    """How the column `wanted` of `sequence.time` or `split.time` is read: as dates, or (None) as numbers.

    Raises:
        BadConfig: It holds neither.
    """
    column = profile.columns[wanted]
    dates = column.dates() if column.type == "date" else None
    if dates is not None:
        return DateColumn(name=column.name, features=("elapsed",), order=dates.order)
    if column.type != "number":
        example = next(iter(column.counts), "")
        raise BadConfig(
            f"dataset.yaml: {setting}: {column.name!r} of {name!r} holds neither dates nor numbers, but values "
            f"such as {example[:80]!r}.",
            "Name a column of dates, written as in 2026-01-31, or of numbers.",
        )
    return None


def _inferred(found: InferredTable, forms: Sequence[TableFormat]) -> tuple[str, ...]:
    csv = any(form.kind == "csv" for form in forms)
    return tuple(sorted([*found.inferred, "columns", *(["delimiter"] if csv else [])]))


def _encoding_warnings(forms: Sequence[TableFormat], names: Sequence[str]) -> list[str]:
    told = [name for form, name in zip(forms, names, strict=True) if form.encoding == "cp1252"]
    shown = [f"{name!r} isn't UTF-8; it was read as Windows-1252." for name in told[:_MAX_TOLD]]
    return [*shown, f"So were {len(told) - _MAX_TOLD:,} more files."] if len(told) > _MAX_TOLD else shown


def _column_warnings(forms: Sequence[TableFormat], names: Sequence[str]) -> list[str]:
    """Which files lack columns that others have; JSON's rows may lack keys anyway."""
    known = dict.fromkeys(column for form in forms if form.kind in ("csv", "parquet") for column in form.columns)
    told: list[str] = []
    for form, name in zip(forms, names, strict=True):
        lacking = [column for column in known if column not in form.columns and column not in partition_of(name)]
        if form.kind in ("csv", "parquet") and lacking:
            shown = ", ".join(repr(column) for column in lacking[:10])
            more = f" and {len(lacking) - 10} more" if len(lacking) > 10 else ""
            told.append(f"{name!r} has no column {shown}{more}; they count as missing in its rows.")
    if len(told) > _MAX_TOLD:
        return [*told[:_MAX_TOLD], f"{len(told) - _MAX_TOLD:,} more files lack columns."]
    return told


def _common_name(names: Sequence[str], dataset: str) -> str:
    """What to call several files: the folder that they share, or the dataset."""
    folder = posixpath.commonpath(names) if names else ""
    return f"{folder or dataset} ({len(names):,} files)"
