"""Planning image sets: archives and loose files, with classes by folder or labels from an index of files."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shoal_core.data.anomalies import UNLABELLED, folder_target
from shoal_core.data.config import DatasetConfig, DatasetRequest
from shoal_core.data.images.decoding import ImageSize, infer_size, measure_image
from shoal_core.data.images.encoding import judge_image
from shoal_core.data.images.folders import class_of, classes_of, common_root, folder_of, no_images
from shoal_core.data.images.gathering import (
    FileKind,
    IndexTable,
    SetFiles,
    cut_files,
    gather_files,
    open_table,
    sample_files,
)
from shoal_core.data.images.item_labels import write_item_labels
from shoal_core.data.images.labels import Labels, is_index_name, read_labels, unlabelled
from shoal_core.data.images.sides import IndexColumn, Sides, find_sides
from shoal_core.data.images.targets import infer_target
from shoal_core.data.pieces import TARGET
from shoal_core.data.plan import Plan
from shoal_core.data.report import DropTally, describe_drops
from shoal_core.data.requests import FileList
from shoal_core.data.spec import ImageInput, PreprocessingSpec, TargetSpec
from shoal_core.data.tables.cells import Cells
from shoal_core.data.tables.targets import describe_problem
from shoal_core.data.values import sort_naturally
from shoal_core.errors import BadConfig, BadDataset, BadImage, BadTable
from shoal_core.keys import DatasetKeys
from shoal_core.store import ObjectStore

SAMPLE_IMAGES = 128


@dataclass(frozen=True)
class _Targets:
    """Positions of the images that have a target, their targets where no folder tells them, and what was decided."""

    positions: NDArray[np.int64]
    target: TargetSpec
    encoded: NDArray[Any] | None
    root: str
    warnings: tuple[str, ...]


def plan_images(uploads: ObjectStore, artifacts: ObjectStore, request: DatasetRequest, files: FileList) -> Plan:
    """Plan a set of images in archives and loose files.

    Raises:
        BadArchive: An archive that can't be trusted as a whole.
        BadConfig: Settings that don't fit the set.
        BadDataset: No images, or nothing to learn from them.
        BadTable: An index of files that can't be read.
    """
    config, keys = request.config, DatasetKeys(request.dataset, request.version)
    _check_config(config)
    images = gather_files(uploads, artifacts, keys, files, FileKind(judge_image, is_index_name))
    _require(images)
    tables = _find_tables(uploads, files, images, config)
    if tables.labels is None:
        targets = _targets_of_folders(images, config, tables)
    else:
        targets = _targets_of_table(images, tables.labels, config)
    sides = find_sides(config.split, images.names, tables.sides, images.name)
    targets = _without(targets, sides, images)
    chosen = [int(targets.positions[index]) for index in _spread(len(targets.positions))]
    sizes = _measure(sample_files(uploads, artifacts, keys, files, images, chosen))
    spec = _spec(config, sizes, targets.target, images.name)
    items, ranges = cut_files(images, targets.positions, math.prod(spec.tensor_shapes()["image"]), config.workers)
    columns = {name: column[targets.positions] for name, column in sides.columns.items()}
    if targets.encoded is not None:
        columns[TARGET] = targets.encoded
    write_item_labels(artifacts, keys, np.array(images.indices, np.int64)[targets.positions], columns, ranges)
    asked: dict[str, object] = {"task": config.task, "target": config.target, "channels": config.image.color}
    asked["image_size"] = config.image_size
    return Plan(
        dataset=request.dataset,
        version=request.version,
        config=config,
        spec=spec,
        source=images.archives[0] if images.alone else None,
        sources=() if images.alone else tuple(images.archives),
        source_name=images.name,
        root=targets.root,
        folders=tuple(images.folders) if any(images.folders) else (),
        labelled=targets.encoded is not None,
        items=items,
        drops=images.drops.total(),
        inferred=tuple(sorted(name for name, value in asked.items() if value is None)),
        warnings=(*targets.warnings, *sides.warnings),
    )


def _require(images: SetFiles) -> None:
    """Raise `BadDataset` when there is no image."""
    if images.names:
        return
    refused = images.drops.total()
    if refused.counts and set(refused.counts) != {"not_an_image"}:
        raise BadDataset(
            f"No image of {images.name!r} can be used: {describe_drops(refused)}.", refused.examples[0].fix
        )
    raise no_images(images.name, [*images.others, *(table.name for table in images.tables)])


def _check_config(config: DatasetConfig) -> None:
    if config.sequence is not None:
        raise BadConfig(
            "dataset.yaml: sequence: images have no columns to go by.", "Remove `sequence`, or upload a table."
        )


@dataclass(frozen=True)
class _Tables:
    """The index of the set's labels, if there is one, and the columns that images are split by."""

    labels: Labels | None = None
    sides: Mapping[str, IndexColumn] = field(default_factory=dict)


def _find_tables(uploads: ObjectStore, files: FileList, images: SetFiles, config: DatasetConfig) -> _Tables:
    """What the tables of the set say about its images; those that say nothing are counted as refused.

    Class folders go before a table that names files without a column that is called like a target. What images are
    split by may be in the same table, or in one of its own.
    """
    found = _read_tables(uploads, files, images, config)
    labelled = [entry for entry in found if entry.labels.column]
    wanted = config.labels.file if config.labels else None
    if len(labelled) > 1:
        shown = ", ".join(repr(entry.table.name) for entry in labelled)
        raise BadDataset(f"{images.name!r} has several tables that name its images: {shown}.", "Set `labels.file`.")
    if wanted is not None and not found:
        raise BadConfig(
            f"dataset.yaml: labels.file: no column of {wanted!r} names the images of {images.name!r}.",
            "Add a column of file names.",
        )
    used = labelled[:1]
    sided = [entry for entry in labelled if entry.labels.sides] or [entry for entry in found if entry.labels.sides]
    if len(sided) > 1:
        shown = ", ".join(repr(entry.table.name) for entry in sided)
        raise BadDataset(
            f"{images.name!r} has several tables with the column that it is split by: {shown}.",
            "Keep the column in one of them.",
        )
    used += [entry for entry in sided if entry not in used]
    images.refuse_tables([entry.table for entry in used])
    for entry in used:
        images.drops.extend(entry.drops.total())
    return _Tables(labelled[0].labels if labelled else None, sided[0].labels.sides if sided else {})


class _Read(NamedTuple):
    table: IndexTable
    labels: Labels
    drops: DropTally


def _read_tables(uploads: ObjectStore, files: FileList, images: SetFiles, config: DatasetConfig) -> list[_Read]:
    """Every table that is read that names images, and what is needed from it."""
    wanted = config.labels.file if config.labels else None
    tables = [table for table in images.tables if wanted is None or table.name in (wanted, wanted.removeprefix("./"))]
    if wanted is not None and not tables:
        names = [table.name for table in images.tables][:20]
        raise BadConfig(f"dataset.yaml: labels.file: {images.name!r} has no table {wanted!r}.", f"Use one of {names}.")
    folders = bool(tables) and _has_classes(images)
    found: list[_Read] = []
    for table in tables:
        drops = DropTally()
        try:
            with open_table(uploads, files, images, table) as stream:
                labels = read_labels(stream, table.name, images.names, config, folders, drops)
        except BadTable:
            # A table that nobody pointed at, and that can't be read, is one more file that isn't an image.
            if config.labels is None and config.target is None:
                continue
            raise
        if labels is not None:
            found.append(_Read(table, labels, drops))
    return found


def _has_classes(images: SetFiles) -> bool:
    folders = set(map(folder_of, images.names))
    root = common_root(folders)
    return len({class_of(folder, root) for folder in folders} - {None}) > 1


def _targets_of_folders(images: SetFiles, config: DatasetConfig, tables: _Tables) -> _Targets:
    if config.labels is not None and not tables.sides:
        raise BadConfig(
            f"dataset.yaml: labels: {images.name!r} has no table whose column names its images.",
            "Add a table with a column of file names and one of labels.",
        )
    if config.target is not None:
        raise BadConfig(
            f"dataset.yaml: target: images have no column {config.target!r}.",
            "Remove `target`; the class of an image is its folder, unless a table names files and labels.",
        )
    if config.finds_anomalies:
        return _anomalies_of_folders(images, config)
    if config.task not in (None, "classification"):
        raise BadConfig(
            f"dataset.yaml: task: images in class folders can't be a {config.task}.",
            "Remove `task`, or add a table of file names and labels.",
        )
    counts = Counter(map(folder_of, images.names))
    root, classes = classes_of(counts, images.name)
    outside = sum(count for folder, count in counts.items() if class_of(folder, root) is None)
    warnings = (f"{outside:,} images lie outside class folders and are left out.",) if outside else ()
    target = TargetSpec(task="classification", classes=tuple(sort_naturally(classes)))
    return _Targets(np.arange(len(images.names)), target, None, root, warnings)


def _anomalies_of_folders(images: SetFiles, config: DatasetConfig) -> _Targets:
    """Every image is a sample, wherever it lies; folders say which are anomalies if one of them is called normal."""
    folders = list(map(folder_of, images.names))
    root = common_root(set(folders))
    labels = [class_of(folder, root) for folder in folders]
    target, warnings = folder_target({label for label in labels if label is not None}, config, images.name)
    encoded = np.array([bool(target.classes) and label not in (None, *target.normal) for label in labels], np.int64)
    return _Targets(np.arange(len(labels)), target, encoded, "", warnings)


def _targets_of_table(images: SetFiles, labels: Labels, config: DatasetConfig) -> _Targets:
    table = labels.table
    for position, code, reason in unlabelled(labels):
        name = images.names[position]
        fix = "Add a row for it, or leave the file out." if code == "no_label" else "Keep one of the rows."
        images.drops.add(images.source_name(images.sources[position]), name, code, f"{name!r}: {reason}.", fix)
    codes = np.array(labels.target.codes, np.int64)
    counts = np.bincount(codes[codes >= 0], minlength=len(labels.target.values)).tolist()
    if not any(counts):
        raise BadDataset(f"No image of {images.name!r} has a label in {table!r}.", "Fill in the labels.")
    used = [number for number, count in enumerate(counts) if count]
    values = [labels.target.values[number] for number in used]
    target = infer_target(values, [counts[number] for number in used], labels.column, config, table)
    rows = np.full(len(labels.target.values), -1)
    rows[used] = np.arange(len(used))
    coded = PreprocessingSpec(kind="image", image=ImageInput(height=1, width=1, channels=1), target=target)
    encoded, problems = coded.encode_target_cells(Cells.of(values))
    wrong = {problem.row: problem for problem in problems}
    positions = np.flatnonzero(codes >= 0)
    value_rows = rows[codes[positions]]
    for position in positions[np.isin(value_rows, list(wrong))].tolist():
        name, problem = images.names[position], wrong[int(rows[codes[position]])]
        reason = describe_problem(problem, f"{table!r}, label of {name!r}")
        images.drops.add(images.source_name(images.sources[position]), name, "bad_value", reason, problem.fix)
    good = ~np.isin(value_rows, list(wrong))
    told = f"No label {labels.column!r} of {table!r} is called normal, so they count for nothing: `anomaly.normal` may."
    warnings = (told,) if target == UNLABELLED else ()
    return _Targets(positions[good], target, encoded[value_rows[good]], "", warnings)


def _without(targets: _Targets, sides: Sides, images: SetFiles) -> _Targets:
    """The targets of images that can be put on a side; the others are told."""
    kept = images.keep_sided(targets.positions, sides)
    encoded = None if targets.encoded is None else targets.encoded[kept]
    return replace(targets, positions=targets.positions[kept], encoded=encoded)


def _spread(count: int) -> list[int]:
    """Up to `SAMPLE_IMAGES` numbers below a count, evenly spread."""
    wanted = min(count, SAMPLE_IMAGES)
    return [number * count // wanted for number in range(wanted)]


def _measure(files: Iterable[bytes]) -> list[ImageSize]:
    """Sizes of the sampled images; a bad one is dropped and reported when it is encoded."""
    sizes: list[ImageSize] = []
    for data in files:
        try:
            sizes.append(measure_image(data))
        except BadImage:
            continue
    return sizes


def _spec(config: DatasetConfig, sizes: list[ImageSize], target: TargetSpec, name: str) -> PreprocessingSpec:
    if not sizes:
        raise BadDataset(
            f"None of the images sampled from {name!r} can be read.", "Check that the files open in an image viewer."
        )
    height, width, channels = infer_size(sizes)
    if config.image_size is not None:
        height, width = config.image_size
    color = config.image.color or ("grey" if channels == 1 else "rgb")
    form = ImageInput(
        height=height,
        width=width,
        channels=1 if color == "grey" else 3,
        color="rgb" if color == "grey" else color,
        fit=config.image.fit,
        crop=config.image.crop,
    )
    return PreprocessingSpec(kind="image", image=form, target=target)
