"""Planning sets of text files: archives of class folders, or loose files in class folders."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence

from shoal_core.data.archives import ARCHIVE_SUFFIXES, Member, archive_format, judge_name, list_members, read_members
from shoal_core.data.config import IMAGE_RECIPES, DatasetConfig, DatasetRequest, SourceFile
from shoal_core.data.cutting import count_items, cut_evenly
from shoal_core.data.images.blocks import BlockWriter
from shoal_core.data.images.fetching import read_ahead
from shoal_core.data.images.folders import class_of, classes_of, folder_of, is_image_name
from shoal_core.data.plan import ArchiveSlice, ObjectSlice, Plan
from shoal_core.data.report import ColumnReport, DropTally, describe_drops
from shoal_core.data.requests import open_source, relative_name
from shoal_core.data.spec import PreprocessingSpec, TableInput, TargetSpec
from shoal_core.data.splits import content_hash
from shoal_core.data.tables.formats import TABLE_SUFFIXES
from shoal_core.data.texts.decoding import decode_text, is_text_name, judge_text_name, judge_text_size
from shoal_core.data.texts.vocabulary import TokenCounter
from shoal_core.data.values import sort_naturally
from shoal_core.errors import BadConfig, BadDataset, BadInput
from shoal_core.keys import DatasetKeys
from shoal_core.store import ObjectStore

TEXT_COLUMN = "text"
MEMBER_COST = 2048
"""What opening one more member or object costs, in bytes of reading."""
SAMPLE_TEXTS = 50_000
SAMPLE_BYTES = 256 * 1024**2
"""The vocabulary is learnt from at most so many texts and bytes, evenly spread; of a tar.gz, from its first bytes."""
_BATCH_TEXTS = 256
_MOST_OTHERS = 20
_ALL = 2**62


class _Texts:
    """What planning learns about the texts of a set: compact arrays, folders with their counts, and the vocabulary."""

    def __init__(self, name: str, config: DatasetConfig) -> None:
        self.name = name
        self.drops = DropTally()
        self.folders: dict[str, int] = {}
        self.indices = array("q")
        self.offsets = array("q")
        self.weights = array("q")
        self.counter = TokenCounter(config.text)
        self.others: list[str] = []
        self.learnt = 0
        self.distinct: set[bytes] = set()

    def add(self, source: str, name: str, index: int, size: int, offset: int, judged: tuple[str, str, str]) -> bool:
        """Take one file, or drop it for what was judged about it (code, reason, fix); whether it was taken."""
        code, reason, fix = next(
            (found for found in (judged, judge_text_name(name), judge_text_size(size)) if found[0]), judged
        )
        if code == "junk":
            self.drops.ignored += 1
        elif code:
            self.drops.add(source, name, code, f"{name!r}: {reason}.", fix)
            if len(self.others) < _MOST_OTHERS:
                self.others.append(name)
        else:
            folder = folder_of(name)
            self.folders[folder] = self.folders.get(folder, 0) + 1
            self.indices.append(index)
            self.weights.append(size + MEMBER_COST)
            self.offsets.append(offset)
        return not code

    def sample(self) -> list[int]:
        """Positions of evenly spread texts, within the bounds on their number and bytes."""
        count = len(self.indices)
        wanted = max(1, min(count, SAMPLE_TEXTS, count * SAMPLE_BYTES // sum(self.weights)))
        return [place * count // wanted for place in range(wanted)]

    def learn(self, contents: Iterable[bytes]) -> None:
        """Count the tokens of some files; bad ones are dropped and reported when they are encoded."""
        batch: list[str | None] = []
        for data in contents:
            try:
                batch.append(decode_text(data))
            except BadInput:
                continue
            self.distinct.add(content_hash(data))
            if len(batch) >= _BATCH_TEXTS:
                self.counter.add_many(batch)
                batch.clear()
        self.counter.add_many(batch)

    def require(self) -> None:
        """Raise `BadDataset` when there is no text."""
        if self.indices:
            return
        refused = self.drops.total()
        fix = "Put .txt files in one folder per class."
        if refused.counts:
            raise BadDataset(f"No text of {self.name!r} can be used: {describe_drops(refused)}.", fix)
        raise BadDataset(f"{self.name!r} holds no texts.", fix)


def holds_texts(uploads: ObjectStore, files: Sequence[SourceFile], dataset: str) -> bool:
    """Whether an upload is a set of text files: one archive or loose files, with texts, without images or tables.

    It reads names until the first image or table. Raises `BadArchive` for an archive that can't be trusted.
    """
    if len(files) == 1 and files[0].key.casefold().endswith(ARCHIVE_SUFFIXES):
        name = relative_name(files[0], dataset)
        with open_source(uploads, files[0]) as stream:
            return _are_texts(member.name for member in list_members(stream, name, files[0].size) if not member.code)
    return _are_texts(name for file in files if not judge_name(name := relative_name(file, dataset))[0])


def _are_texts(names: Iterable[str]) -> bool:
    found = False
    for name in names:
        if is_image_name(name) or name.casefold().endswith((*TABLE_SUFFIXES, *ARCHIVE_SUFFIXES)):
            return False
        found = found or is_text_name(name)
    return found


def plan_texts(
    uploads: ObjectStore, artifacts: ObjectStore, request: DatasetRequest, files: Sequence[SourceFile]
) -> Plan:
    """Plan a set of text files in class folders.

    Raises:
        BadArchive: The archive can't be trusted as a whole.
        BadDataset: No text, or not two classes.
        BadConfig: Something is asked for that texts can't give.
    """
    _check_config(request.config)
    if len(files) == 1 and files[0].key.casefold().endswith(ARCHIVE_SUFFIXES):
        return _plan_archive(uploads, artifacts, request, files[0])
    return _plan_objects(uploads, request, files)


def _plan_archive(uploads: ObjectStore, artifacts: ObjectStore, request: DatasetRequest, file: SourceFile) -> Plan:
    name = relative_name(file, request.dataset)
    texts = _Texts(name, request.config)
    blocks: array[int] | None = None
    with open_source(uploads, file) as stream:
        if archive_format(stream, name) == "tar.gz":
            blocks = array("q")
            writer = BlockWriter(artifacts, DatasetKeys(request.dataset, request.version), 0)
            texts.learn(_packed(texts, writer, blocks, read_members(stream, name, file.size, 0, _ALL)))
            writer.close()
            texts.require()
        else:
            for member in list_members(stream, name, file.size):
                judged = (member.code, member.reason, member.fix)
                texts.add(name, member.name, member.index, member.size, member.offset, judged)
            texts.require()
            wanted = {texts.indices[place] for place in texts.sample()}
            texts.learnt = len(wanted)
            first, last = texts.indices[0], max(wanted) + 1
            members = read_members(stream, name, file.size, first, last, texts.offsets[0], wanted)
            texts.learn(data for member, data in members if not member.code)
    root, classes = classes_of(texts.folders, name, "texts")
    spec = _spec(texts, classes)
    items = tuple(
        ArchiveSlice(
            block=blocks[start] if blocks is not None else None,
            first=start if blocks is not None else texts.indices[start],
            last=stop if blocks is not None else texts.indices[stop - 1] + 1,
            offset=texts.offsets[start],
        )
        for start, stop in _cut(texts, spec, request.config)
    )
    return _finish(request, texts, spec, root, items, file)


def _plan_objects(uploads: ObjectStore, request: DatasetRequest, files: Sequence[SourceFile]) -> Plan:
    texts = _Texts(request.dataset, request.config)
    for index, file in enumerate(files):
        name = relative_name(file, request.dataset)
        texts.add(request.dataset, name, index, file.size, 0, judge_name(name))
    texts.require()
    root, classes = classes_of(texts.folders, request.dataset, "texts")
    chosen = [files[texts.indices[place]] for place in texts.sample()]
    texts.learnt = len(chosen)
    texts.learn(read_ahead(uploads, chosen))
    spec = _spec(texts, classes)
    items = tuple(
        ObjectSlice(first=texts.indices[start], last=texts.indices[stop - 1] + 1)
        for start, stop in _cut(texts, spec, request.config)
    )
    return _finish(request, texts, spec, root, items, None)


def _packed(
    texts: _Texts, writer: BlockWriter, blocks: array[int], members: Iterator[tuple[Member, bytes]]
) -> Iterator[bytes]:
    """Pack the texts of an archive that can't be entered in the middle; gives those to learn the vocabulary from."""
    size = 0
    for member, data in members:
        judged = (member.code, member.reason, member.fix)
        if not texts.add(texts.name, member.name, member.index, member.size, 0, judged):
            continue
        block, texts.offsets[-1] = writer.add(member.name, data)
        blocks.append(block)
        if texts.learnt < SAMPLE_TEXTS and size < SAMPLE_BYTES:
            texts.learnt += 1
            size += len(data)
            yield data


def _check_config(config: DatasetConfig) -> None:
    if config.target is not None:
        raise BadConfig(
            f"dataset.yaml: target: text files have no column {config.target!r}.",
            "Remove `target`; the class of a text is its folder.",
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


def _spec(texts: _Texts, classes: list[str]) -> PreprocessingSpec:
    if not texts.counter.texts:
        raise BadDataset(
            f"None of the files sampled from {texts.name!r} is text.", "Check that they open in a text editor."
        )
    return PreprocessingSpec(
        kind="table",
        table=TableInput(texts=(texts.counter.column(TEXT_COLUMN),)),
        target=TargetSpec(task="classification", classes=tuple(sort_naturally(classes))),
    )


def _cut(texts: _Texts, spec: PreprocessingSpec, config: DatasetConfig) -> list[tuple[int, int]]:
    sample_bytes = 4 * spec.tensor_shapes()["tokens"][0]
    pieces = count_items(len(texts.weights), sum(texts.weights), sample_bytes, config.workers)
    return cut_evenly(texts.weights, pieces)


def _finish(
    request: DatasetRequest,
    texts: _Texts,
    spec: PreprocessingSpec,
    root: str,
    items: tuple[ArchiveSlice | ObjectSlice, ...],
    file: SourceFile | None,
) -> Plan:
    warnings: list[str] = []
    outside = sum(count for folder, count in texts.folders.items() if class_of(folder, root) is None)
    if outside:
        warnings.append(f"{outside:,} texts lie outside class folders and are left out.")
    if texts.learnt < len(texts.indices):
        learnt = "length" if request.config.text.buckets else "vocabulary"
        warnings.append(f"The {learnt} comes from {texts.learnt:,} of {len(texts.indices):,} texts.")
    if texts.counter.error:
        warnings.append(
            f"Of very many different tokens, those that occur up to {texts.counter.error:,} times may lack."
        )
    column = ColumnReport(
        name=TEXT_COLUMN, role="text", type="text", missing=0, distinct=len(texts.distinct), distinct_exact=False
    )
    return Plan(
        dataset=request.dataset,
        version=request.version,
        config=request.config,
        spec=spec,
        source=file,
        source_name=texts.name,
        root=root,
        items=items,
        drops=texts.drops.total(),
        columns=(column,),
        inferred=tuple(sorted(["task", "target", *(["text.length"] if request.config.text.length is None else [])])),
        warnings=tuple(warnings),
    )
