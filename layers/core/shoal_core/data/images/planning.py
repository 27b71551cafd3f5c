"""Planning image sets: an archive of class folders, or loose files in class folders."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from shoal_core.data.archives import judge_name, list_members, read_members
from shoal_core.data.config import DatasetConfig, DatasetRequest, SourceFile
from shoal_core.data.cutting import count_items, cut_evenly
from shoal_core.data.images.decoding import ImageSize, infer_size, measure_image
from shoal_core.data.images.folders import class_of, classes_of, folder_of, judge_image_name, no_images
from shoal_core.data.plan import ArchiveSlice, ObjectSlice, Plan
from shoal_core.data.report import DropTally, describe_drops
from shoal_core.data.requests import relative_name
from shoal_core.data.spec import ImageInput, PreprocessingSpec, TargetSpec
from shoal_core.data.values import sort_naturally
from shoal_core.errors import BadConfig, BadDataset, BadImage
from shoal_core.store import ObjectStore

# What opening one more member or object costs, in bytes of reading.
MEMBER_COST = 2048
SAMPLE_IMAGES = 128
MAX_IMAGE_BYTES = 64 * 1024**2


class _Images:
    """What planning learns about the images of a set: compact arrays, and folders with their counts."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.drops = DropTally()
        self.folders: dict[str, int] = {}
        self.indices = array("q")
        self.offsets = array("q")
        self.weights = array("q")
        self.others: list[str] = []

    def add(self, name: str, index: int, size: int, offset: int, judged: tuple[str, str, str]) -> None:
        """Take one file, or drop it for what was judged about it (code, reason, fix)."""
        code, reason, fix = judged if judged[0] else judge_image_name(name)
        if code == "junk":
            self.drops.ignored += 1
        elif code:
            self.drops.add(self.name, name, code, f"{name!r}: {reason}.", fix)
            if len(self.others) < 20:
                self.others.append(name)
        else:
            folder = folder_of(name)
            self.folders[folder] = self.folders.get(folder, 0) + 1
            self.indices.append(index)
            self.weights.append(size + MEMBER_COST)
            self.offsets.append(offset)

    def sample(self) -> list[int]:
        """Positions of up to `SAMPLE_IMAGES` images, evenly spread."""
        count = len(self.indices)
        wanted = min(count, SAMPLE_IMAGES)
        return [position * count // wanted for position in range(wanted)]

    def require(self) -> None:
        """Raise `BadDataset` when there is no image."""
        if self.indices:
            return
        refused = self.drops.total()
        if refused.counts and set(refused.counts) != {"not_an_image"}:
            raise BadDataset(
                f"No image of {self.name!r} can be used: {describe_drops(refused)}.", refused.examples[0].fix
            )
        raise no_images(self.name, self.others)


def plan_archive(uploads: ObjectStore, request: DatasetRequest, file: SourceFile, name: str) -> Plan:
    """Plan one archive of images by class. Raises `BadArchive`, `BadDataset` or `BadConfig`."""
    _check_config(request.config)
    images = _Images(name)
    with uploads.open(file.key, file.version) as stream:
        for member in list_members(stream, name, file.size):
            judged = (member.code, member.reason, member.fix)
            images.add(member.name, member.index, member.size, member.offset, judged)
        images.require()
        root, classes = classes_of(images.folders, name)
        sizes: list[ImageSize] = []
        wanted = {images.indices[position] for position in images.sample()}
        first, last = images.indices[0], max(wanted) + 1
        for _, data in read_members(stream, name, file.size, first, last, images.offsets[0], wanted):
            _measure(data, sizes)
    spec = _spec(request.config, sizes, classes, name)
    items = tuple(
        ArchiveSlice(first=images.indices[start], last=images.indices[stop - 1] + 1, offset=images.offsets[start])
        for start, stop in _cut(images, spec, request.config)
    )
    return _finish(request, images, spec, root, items, file)


def plan_objects(uploads: ObjectStore, request: DatasetRequest, files: Sequence[SourceFile]) -> Plan:
    """Plan loose images in class folders. Raises `BadDataset` or `BadConfig`."""
    _check_config(request.config)
    images = _Images(request.dataset)
    for index, file in enumerate(files):
        name = relative_name(file, request.dataset)
        judged = judge_name(name)
        if not judged[0] and file.size > MAX_IMAGE_BYTES:
            judged = ("too_large", f"it has {file.size:,} bytes", "Scale the image down before uploading.")
        images.add(name, index, file.size, 0, judged)
    images.require()
    root, classes = classes_of(images.folders, request.dataset)
    sizes: list[ImageSize] = []
    for position in images.sample():
        file = files[images.indices[position]]
        _measure(uploads.read(file.key, file.version), sizes)
    spec = _spec(request.config, sizes, classes, request.dataset)
    items = tuple(
        ObjectSlice(first=images.indices[start], last=images.indices[stop - 1] + 1)
        for start, stop in _cut(images, spec, request.config)
    )
    return _finish(request, images, spec, root, items, None)


def _check_config(config: DatasetConfig) -> None:
    if config.target is not None:
        raise BadConfig(
            f"dataset.yaml: target: images have no column {config.target!r}.",
            "Remove `target`; the class of an image is its folder.",
        )
    if config.task == "regression":
        raise BadConfig("dataset.yaml: task: images in class folders can't be a regression.", "Remove `task`.")


def _measure(data: bytes, sizes: list[ImageSize]) -> None:
    """Add the size of one sampled image; a bad one is dropped and reported when it is encoded."""
    try:
        sizes.append(measure_image(data))
    except BadImage:
        return


def _spec(config: DatasetConfig, sizes: list[ImageSize], classes: list[str], name: str) -> PreprocessingSpec:
    if not sizes:
        raise BadDataset(
            f"None of the images sampled from {name!r} can be read.", "Check that the files open in an image viewer."
        )
    height, width, channels = infer_size(sizes)
    if config.image_size is not None:
        height, width = config.image_size
    return PreprocessingSpec(
        kind="image",
        image=ImageInput(height=height, width=width, channels=1 if channels == 1 else 3),
        target=TargetSpec(task="classification", classes=tuple(sort_naturally(classes))),
    )


def _cut(images: _Images, spec: PreprocessingSpec, config: DatasetConfig) -> list[tuple[int, int]]:
    channels, height, width = spec.tensor_shapes()["image"]
    pieces = count_items(len(images.weights), sum(images.weights), channels * height * width, config.workers)
    return cut_evenly(images.weights, pieces)


def _finish(
    request: DatasetRequest,
    images: _Images,
    spec: PreprocessingSpec,
    root: str,
    items: tuple[ArchiveSlice | ObjectSlice, ...],
    file: SourceFile | None,
) -> Plan:
    warnings: list[str] = []
    outside = sum(count for folder, count in images.folders.items() if class_of(folder, root) is None)
    if outside:
        warnings.append(f"{outside:,} images lie outside class folders and are left out.")
    inferred = ["task", "target", "channels", *(["image_size"] if request.config.image_size is None else [])]
    return Plan(
        dataset=request.dataset,
        version=request.version,
        config=request.config,
        spec=spec,
        source=file,
        source_name=images.name,
        root=root,
        items=items,
        drops=images.drops.total(),
        inferred=tuple(sorted(inferred)),
        warnings=tuple(warnings),
    )
