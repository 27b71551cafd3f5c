"""Planning sets of text files: archives and loose files, in class folders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from shoal_core.data.archives import judge_name, list_members
from shoal_core.data.config import IMAGE_RECIPES, DatasetConfig, DatasetRequest, SourceFile
from shoal_core.data.images.folders import class_of, classes_of, folder_of, is_image_name
from shoal_core.data.images.gathering import (
    FileKind,
    SetFiles,
    cut_files,
    gather_files,
    is_archive_name,
    sample_files,
)
from shoal_core.data.images.item_labels import write_item_labels
from shoal_core.data.images.sides import find_sides
from shoal_core.data.plan import Plan
from shoal_core.data.report import ColumnReport, describe_drops
from shoal_core.data.requests import FileList, open_source, relative_name
from shoal_core.data.spec import PreprocessingSpec, TableInput, TargetSpec
from shoal_core.data.splits import content_hash
from shoal_core.data.tables.formats import TABLE_SUFFIXES
from shoal_core.data.texts.decoding import decode_text, is_text_name, judge_text
from shoal_core.data.texts.vocabulary import TokenCounter
from shoal_core.data.values import sort_naturally
from shoal_core.errors import BadConfig, BadDataset, BadInput
from shoal_core.keys import DatasetKeys
from shoal_core.store import ObjectStore

TEXT_COLUMN = "text"
SAMPLE_TEXTS = 50_000
SAMPLE_BYTES = 256 * 1024**2
"""The vocabulary is learnt from at most so many texts and bytes, evenly spread; of a tar.gz, from its first bytes."""
_BATCH_TEXTS = 256


class _Learner:
    """The vocabulary of a set, from a share of its texts; bad ones are dropped and reported when they are encoded.

    Args:
        config: How texts become tokens.
        sizes: Bytes of each archive.
        total: Bytes of all files: the share of an archive that is re-packed is that of its bytes.
    """

    def __init__(self, config: DatasetConfig, sizes: Sequence[int], total: int) -> None:
        self.counter = TokenCounter(config.text)
        self.learnt = 0
        self.distinct: set[bytes] = set()
        self._shares = [size / max(1, total) for size in sizes]
        self._taken: dict[int, tuple[int, int]] = {}
        self._batch: list[str | None] = []

    def take(self, source: int, data: bytes) -> None:
        """Learn from a text of an archive that is re-packed, until its share is used up."""
        texts, size = self._taken.get(source, (0, 0))
        share = self._shares[source]
        if texts < SAMPLE_TEXTS * share and size < SAMPLE_BYTES * share:
            self._taken[source] = texts + 1, size + len(data)
            self.learn(data)

    def sample(self, found: SetFiles) -> list[int]:
        """Positions of evenly spread texts of the other sources, within the bounds on their number and bytes."""
        share = 1 - sum(self._shares[source] for source in self._taken)
        positions = [position for position in range(len(found.names)) if found.block(position) is None]
        if not positions:
            return []
        count, weight = len(positions), sum(found.weights[position] for position in positions)
        wanted = max(1, min(count, int(SAMPLE_TEXTS * share), int(count * SAMPLE_BYTES * share) // weight))
        return [positions[place * count // wanted] for place in range(wanted)]

    def learn(self, data: bytes) -> None:
        """Count the tokens of one file."""
        self.learnt += 1
        try:
            self._batch.append(decode_text(data))
        except BadInput:
            return
        self.distinct.add(content_hash(data))
        if len(self._batch) >= _BATCH_TEXTS:
            self.close()

    def close(self) -> None:
        """Count what is waiting."""
        self.counter.add_many(self._batch)
        self._batch.clear()


def holds_texts(uploads: ObjectStore, files: Sequence[SourceFile], dataset: str) -> bool:
    """Whether an upload is a set of text files: archives and loose files, with texts, without images or tables.

    It reads names until the first image or table. Raises `BadArchive` for an archive that can't be trusted.
    """
    found = False
    for name in _names(uploads, files, dataset):
        if is_image_name(name) or name.casefold().endswith(TABLE_SUFFIXES):
            return False
        found = found or is_text_name(name)
    return found


def _names(uploads: ObjectStore, files: Sequence[SourceFile], dataset: str) -> Iterator[str]:
    """Names of loose files, then of the members of archives."""
    archives: list[tuple[str, SourceFile]] = []
    for file in files:
        name = relative_name(file, dataset)
        if is_archive_name(name):
            archives.append((name, file))
        elif not judge_name(name)[0]:
            yield name
    for name, file in archives:
        with open_source(uploads, file) as stream:
            yield from (member.name for member in list_members(stream, name, file.size) if not member.code)


def plan_texts(uploads: ObjectStore, artifacts: ObjectStore, request: DatasetRequest, files: FileList) -> Plan:
    """Plan a set of text files in class folders, in archives and loose.

    Raises:
        BadArchive: An archive that can't be trusted as a whole.
        BadDataset: No text, or not two classes.
        BadConfig: Something is asked for that texts can't give.
    """
    config, keys = request.config, DatasetKeys(request.dataset, request.version)
    _check_config(config)
    archives = [file.size for file in files if is_archive_name(relative_name(file, request.dataset))]
    learner = _Learner(config, archives, sum(file.size for file in files))
    texts = gather_files(uploads, artifacts, keys, files, FileKind(judge_text, take=learner.take))
    _require(texts)
    for data in sample_files(uploads, artifacts, keys, files, texts, learner.sample(texts)):
        learner.learn(data)
    learner.close()
    folders = Counter(map(folder_of, texts.names))
    root, classes = classes_of(folders, texts.name, "texts")
    spec = _spec(texts, learner, classes)
    sample_bytes = 4 * spec.tensor_shapes()["tokens"][0]
    sides = find_sides(config.split, texts.names, {}, texts.name)
    positions = np.flatnonzero(texts.keep_sided(np.arange(len(texts.names)), sides))
    items, ranges = cut_files(texts, positions, sample_bytes, config.workers)
    columns = {name: found[positions] for name, found in sides.columns.items()}
    write_item_labels(artifacts, keys, np.array(texts.indices, np.int64)[positions], columns, ranges)
    outside = sum(count for folder, count in folders.items() if class_of(folder, root) is None)
    column = ColumnReport(
        name=TEXT_COLUMN, role="text", type="text", missing=0, distinct=len(learner.distinct), distinct_exact=False
    )
    return Plan(
        dataset=request.dataset,
        version=request.version,
        config=config,
        spec=spec,
        source=texts.archives[0] if texts.alone else None,
        sources=() if texts.alone else tuple(texts.archives),
        source_name=texts.name,
        root=root,
        folders=tuple(texts.folders) if any(texts.folders) else (),
        items=items,
        drops=texts.drops.total(),
        columns=(column,),
        inferred=tuple(sorted(["task", "target", *(["text.length"] if config.text.length is None else [])])),
        warnings=(*_warnings(texts, learner, config, outside), *sides.warnings),
    )


def _require(texts: SetFiles) -> None:
    """Raise `BadDataset` when there is no text."""
    if texts.names:
        return
    refused = texts.drops.total()
    fix = "Put .txt files in one folder per class."
    if refused.counts:
        raise BadDataset(f"No text of {texts.name!r} can be used: {describe_drops(refused)}.", fix)
    raise BadDataset(f"{texts.name!r} holds no texts.", fix)


def _check_config(config: DatasetConfig) -> None:
    if config.target is not None:
        raise BadConfig(
            f"dataset.yaml: target: text files have no column {config.target!r}.",
            "Remove `target`; the class of a text is its folder.",
        )
    if config.finds_anomalies:
        raise BadConfig(
            "dataset.yaml: anomalies can't be found in texts.",
            "Remove `recipe: autoencoder` and `task: anomaly`, or upload images, tables or sequences.",
        )
    if config.task not in (None, "classification"):
        raise BadConfig(
            f"dataset.yaml: task: texts in class folders can't be a {config.task}.",
            "Remove `task`, or upload a table of texts and targets.",
        )
    if config.image_size is not None:
        raise BadConfig("dataset.yaml: image_size: the dataset is texts.", "Remove `image_size`.")
    if config.sequence is not None:
        raise BadConfig("dataset.yaml: sequence: the dataset is text files.", "Remove `sequence`.")
    if config.recipe in IMAGE_RECIPES:
        raise BadConfig(
            f"dataset.yaml: recipe: {config.recipe} needs images, and the dataset is texts.",
            "Set `recipe: text-cnn` or `recipe: fasttext`.",
        )


def _spec(texts: SetFiles, learner: _Learner, classes: list[str]) -> PreprocessingSpec:
    if not learner.counter.texts:
        raise BadDataset(
            f"None of the files sampled from {texts.name!r} is text.", "Check that they open in a text editor."
        )
    return PreprocessingSpec(
        kind="table",
        table=TableInput(texts=(learner.counter.column(TEXT_COLUMN),)),
        target=TargetSpec(task="classification", classes=tuple(sort_naturally(classes))),
    )


def _warnings(texts: SetFiles, learner: _Learner, config: DatasetConfig, outside: int) -> Iterator[str]:
    if outside:
        yield f"{outside:,} texts lie outside class folders and are left out."
    if learner.learnt < len(texts.names):
        learnt = "length" if config.text.buckets else "vocabulary"
        yield f"The {learnt} comes from {learner.learnt:,} of {len(texts.names):,} texts."
    if learner.counter.error:
        yield f"Of very many different tokens, those that occur up to {learner.counter.error:,} times may lack."
