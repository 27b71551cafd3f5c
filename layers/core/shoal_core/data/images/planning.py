"""Planning image sets: archives and loose files, with classes by folder or labels from an index of files."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shoal_core.data.config import DatasetConfig, DatasetRequest
from shoal_core.data.cutting import count_items, cut_evenly
from shoal_core.data.images.decoding import ImageSize, infer_size, measure_image
from shoal_core.data.images.folders import class_of, classes_of, common_root, folder_of
from shoal_core.data.images.gathering import (
    LOOSE,
    ImageSet,
    IndexTable,
    gather_images,
    open_table,
    sample_images,
)
from shoal_core.data.images.item_labels import write_item_labels
from shoal_core.data.images.labels import Labels, named_target, read_labels, unlabelled
from shoal_core.data.images.targets import infer_target
from shoal_core.data.plan import ArchiveSlice, ObjectSlice, Plan
from shoal_core.data.report import DropTally
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
    images = gather_images(uploads, artifacts, keys, files)
    found = _find_labels(uploads, files, images, config)
    targets = _targets_of_folders(images, config) if found is None else _targets_of_table(images, found, config)
    chosen = [int(targets.positions[index]) for index in _spread(len(targets.positions))]
    sizes = _measure(sample_images(uploads, artifacts, keys, files, images, chosen))
    spec = _spec(config, sizes, targets.target, images.name)
    items, ranges = _cut(images, targets.positions, spec, config)
    if targets.encoded is not None:
        members = np.array(images.indices, np.int64)[targets.positions]
        for item, (start, stop) in enumerate(ranges):
            write_item_labels(artifacts, keys, item, members[start:stop], targets.encoded[start:stop])
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
        warnings=targets.warnings,
    )


def _check_config(config: DatasetConfig) -> None:
    asked = {"split.group": config.split.group, "split.time": config.split.time, "sequence": config.sequence}
    wrong = next((name for name, value in asked.items() if value is not None), None)
    if wrong is not None:
        raise BadConfig(
            f"dataset.yaml: {wrong}: images have no columns to go by.", f"Remove `{wrong}`, or upload a table."
        )


def _find_labels(
    uploads: ObjectStore, files: FileList, images: ImageSet, config: DatasetConfig
) -> tuple[IndexTable, Labels] | None:
    """The index of files, if the set has one, and what it says; the other tables are counted as refused.

    Class folders go before a table that names files without a column that is called like a target.
    """
    wanted = config.labels.file if config.labels else None
    tables = [table for table in images.tables if wanted is None or table.name in (wanted, wanted.removeprefix("./"))]
    if wanted is not None and not tables:
        names = [table.name for table in images.tables][:20]
        raise BadConfig(f"dataset.yaml: labels.file: {images.name!r} has no table {wanted!r}.", f"Use one of {names}.")
    found: list[tuple[IndexTable, Labels, DropTally]] = []
    for table in tables:
        drops = DropTally()
        try:
            with open_table(uploads, files, images, table) as stream:
                labels = read_labels(stream, table.name, images.names, config, drops)
        except BadTable:
            # A table that nobody pointed at, and that can't be read, is one more file that isn't an image.
            if config.labels is None and config.target is None:
                continue
            raise
        if labels is not None and (_asked(config) or named_target([labels.column]) or not _has_classes(images)):
            found.append((table, labels, drops))
    if len(found) > 1:
        shown = ", ".join(repr(table.name) for table, _, _ in found)
        raise BadDataset(f"{images.name!r} has several tables that name its images: {shown}.", "Set `labels.file`.")
    if wanted is not None and not found:
        raise BadConfig(
            f"dataset.yaml: labels.file: no column of {wanted!r} names the images of {images.name!r}.",
            "Add a column of file names.",
        )
    images.refuse_tables(found[0][0] if found else None)
    if not found:
        return None
    images.drops.extend(found[0][2].total())
    return found[0][0], found[0][1]


def _asked(config: DatasetConfig) -> bool:
    return config.labels is not None or config.target is not None


def _has_classes(images: ImageSet) -> bool:
    folders = set(map(folder_of, images.names))
    root = common_root(folders)
    return len({class_of(folder, root) for folder in folders} - {None}) > 1


def _targets_of_folders(images: ImageSet, config: DatasetConfig) -> _Targets:
    if config.labels is not None:
        raise BadConfig(
            f"dataset.yaml: labels: {images.name!r} has no table whose column names its images.",
            "Add a CSV or JSONL file with a column of file names and one of labels.",
        )
    if config.target is not None:
        raise BadConfig(
            f"dataset.yaml: target: images have no column {config.target!r}.",
            "Remove `target`; the class of an image is its folder, unless a table names files and labels.",
        )
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


def _targets_of_table(images: ImageSet, found: tuple[IndexTable, Labels], config: DatasetConfig) -> _Targets:
    table, labels = found
    for position, code, reason in unlabelled(labels):
        name = images.names[position]
        fix = "Add a row for it, or leave the file out." if code == "no_label" else "Keep one of the rows."
        images.drops.add(images.source_name(images.sources[position]), name, code, f"{name!r}: {reason}.", fix)
    codes = np.array(labels.codes, np.int64)
    counts = np.bincount(codes[codes >= 0], minlength=len(labels.values)).tolist()
    if not any(counts):
        raise BadDataset(f"No image of {images.name!r} has a label in {table.name!r}.", "Fill in the labels.")
    used = [number for number, count in enumerate(counts) if count]
    values = [labels.values[number] for number in used]
    target = infer_target(values, [counts[number] for number in used], labels.column, config, table.name)
    rows = np.full(len(labels.values), -1)
    rows[used] = np.arange(len(used))
    coded = PreprocessingSpec(kind="image", image=ImageInput(height=1, width=1, channels=1), target=target)
    encoded, problems = coded.encode_target_cells(Cells.of(values))
    wrong = {problem.row: problem for problem in problems}
    positions = np.flatnonzero(codes >= 0)
    value_rows = rows[codes[positions]]
    for position in positions[np.isin(value_rows, list(wrong))].tolist():
        name, problem = images.names[position], wrong[int(rows[codes[position]])]
        reason = describe_problem(problem, f"{table.name!r}, label of {name!r}")
        images.drops.add(images.source_name(images.sources[position]), name, "bad_value", reason, problem.fix)
    good = ~np.isin(value_rows, list(wrong))
    return _Targets(positions[good], target, encoded[value_rows[good]], "", ())


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


def _cut(
    images: ImageSet, positions: NDArray[np.int64], spec: PreprocessingSpec, config: DatasetConfig
) -> tuple[tuple[ArchiveSlice | ObjectSlice, ...], list[tuple[int, int]]]:
    """Work items of one source each, and the ranges of `positions` that they hold."""
    channels, height, width = spec.tensor_shapes()["image"]
    weights = np.array(images.weights, np.int64)[positions].tolist()
    pieces = count_items(len(weights), sum(weights), channels * height * width, config.workers)
    sources = np.array(images.sources, np.int32)[positions]
    borders = [0, *(np.flatnonzero(np.diff(sources)) + 1).tolist(), len(sources)]
    bounds = sorted({*borders, *itertools.chain.from_iterable(cut_evenly(weights, pieces))})
    ranges = list(itertools.pairwise(bounds))
    return tuple(_item(images, positions[start:stop]) for start, stop in ranges), ranges


def _item(images: ImageSet, positions: NDArray[np.int64]) -> ArchiveSlice | ObjectSlice:
    start, end = int(positions[0]), int(positions[-1])
    source, first, last = images.sources[start], images.indices[start], images.indices[end] + 1
    if source == LOOSE:
        return ObjectSlice(first=first, last=last)
    return ArchiveSlice(file=source, first=first, last=last, offset=images.offsets[start], block=images.block(start))
