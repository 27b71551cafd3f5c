"""Encoding the images of one work item: raw files in, pixels with content hashes out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shoal_core.data.archives import judge_name, read_members
from shoal_core.data.images.blocks import read_blocks
from shoal_core.data.images.decoding import fit_image
from shoal_core.data.images.fetching import read_ahead
from shoal_core.data.images.folders import class_of, folder_of, judge_image_name, place_in
from shoal_core.data.images.item_labels import read_item_labels
from shoal_core.data.images.perceptual import near_hashes
from shoal_core.data.images.png import Scratch
from shoal_core.data.pieces import FEATURE_HASH, NEAR_HASH, PLACE, ROW_HASH
from shoal_core.data.plan import ArchiveSlice, ObjectSlice, Plan
from shoal_core.data.quality.headers import ImageSources
from shoal_core.data.report import DropTally
from shoal_core.data.requests import FileList, open_source, relative_name
from shoal_core.data.shards import Tensors
from shoal_core.data.spec import ImageInput
from shoal_core.data.splits import HASH_BYTES
from shoal_core.errors import BadInput
from shoal_core.keys import DatasetKeys
from shoal_core.store import ObjectStore

MAX_IMAGE_BYTES = 64 * 1024**2
# Images that are taken out of Pillow at once: the call costs more than the pixels of a small image.
_BATCH = 256
_BATCH_BYTES = 4 * 1024**2
_CANVAS_MODES = {"rgb": "RGB", "hsv": "HSV", "ycbcr": "YCbCr"}


class RawImage(NamedTuple):
    """One file: the source that it is in, its number there, its name in the set and its bytes."""

    source: str
    number: int
    name: str
    data: bytes


def encode_images(
    uploads: ObjectStore, artifacts: ObjectStore, files: FileList, plan: Plan, number: int, drops: DropTally
) -> Tensors | None:
    """Encode work item `number`, a slice of an archive or of loose files; None when no sample is left.

    See `samples.encode_item`. `near_hash` uint64 [N,18] comes along unless near-duplicates are off.
    """
    item = plan.items[number]
    form = plan.spec.image
    if form is None or not isinstance(item, ArchiveSlice | ObjectSlice):
        raise BadInput(f"Work item {number} of {plan.dataset!r} holds no images.", "Upload the data again.")
    if isinstance(item, ArchiveSlice):
        images = _archive_images(uploads, artifacts, plan, item, drops)
    else:
        images = _object_images(uploads, files, plan, item)
    targets: _Targets
    targets = _ItemTargets(artifacts, plan, number) if plan.labelled else _FolderTargets(plan, drops)
    pixels = _Pixels(form, item.last - item.first, plan.config.near_duplicates != "off")
    rows: list[int] = []
    places: list[str] = []
    sources = ImageSources()
    scratch: Scratch = {}
    for image in images:
        row = targets.row(image)
        if row is None:
            continue
        try:
            pixels.add(fit_image(image.data, form, repr(image.name), scratch))
        except BadInput as error:
            drops.add(image.source, image.name, "bad_image", error.reason, error.fix, raw=image.data)
            continue
        sources.add(image.data)
        drops.encode(image.source, 1)
        rows.append(row)
        places.append(image.name)
    sources.tell(drops)
    if not rows:
        return None
    return {**pixels.tensors(), "target": targets.gather(rows), PLACE: np.array(places, object)}


class _Targets(Protocol):
    """Where targets come from: `row` is an image's row in what `gather` takes from, None for one without."""

    def row(self, image: RawImage) -> int | None: ...

    def gather(self, rows: list[int]) -> NDArray[Any]: ...


class _FolderTargets:
    """The class of an image is the folder that holds it."""

    def __init__(self, plan: Plan, drops: DropTally) -> None:
        self._plan = plan
        self._drops = drops
        self._codes: dict[str, int | None] = {}

    def row(self, image: RawImage) -> int | None:
        folder = folder_of(image.name)
        if folder not in self._codes:
            label = class_of(folder, self._plan.root)
            self._codes[folder] = None if label is None else int(self._plan.spec.encode_target([label])[0])
        code = self._codes[folder]
        if code is None:
            reason, fix = f"{image.name!r} lies outside class folders.", "Move it into the folder of its class."
            self._drops.add(image.source, image.name, "no_class_folder", reason, fix, raw=image.data)
        return code

    def gather(self, rows: list[int]) -> NDArray[Any]:
        return np.array(rows, np.int64)


class _ItemTargets:
    """Targets that planning found in an index of files; those without one were reported there."""

    def __init__(self, artifacts: ObjectStore, plan: Plan, number: int) -> None:
        members, self._targets = read_item_labels(artifacts, DatasetKeys(plan.dataset, plan.version), number)
        self._rows = {member: row for row, member in enumerate(members.tolist())}

    def row(self, image: RawImage) -> int | None:
        return self._rows.get(image.number)

    def gather(self, rows: list[int]) -> NDArray[Any]:
        return self._targets[rows]


def _archive_images(
    uploads: ObjectStore, artifacts: ObjectStore, plan: Plan, item: ArchiveSlice, drops: DropTally
) -> Iterator[RawImage]:
    """A slice's images; refused members were counted by planning, damaged ones are counted here."""
    file = plan.image_sources[item.file]
    source = plan.source_name if len(plan.image_sources) == 1 else relative_name(file, plan.dataset)
    folder = plan.folders[item.file] if plan.folders else ""
    if item.block is not None:
        keys = DatasetKeys(plan.dataset, plan.version)
        for index, name, data in read_blocks(artifacts, keys, item):
            yield RawImage(source, index, place_in(folder, name), data)
        return
    with open_source(uploads, file) as stream:
        for member, data in read_members(stream, source, file.size, item.first, item.last, item.offset):
            if member.code == "damaged":
                reason = f"{member.name!r}: {member.reason}."
                drops.add(source, place_in(folder, member.name), member.code, reason, member.fix)
            elif not member.code and not judge_image_name(member.name)[0]:
                yield RawImage(source, member.index, place_in(folder, member.name), data)


def _object_images(uploads: ObjectStore, files: FileList, plan: Plan, item: ObjectSlice) -> Iterator[RawImage]:
    chosen = [
        (index, name, file)
        for index, file in enumerate(files.part(item.first, item.last), item.first)
        if file.size <= MAX_IMAGE_BYTES
        and not judge_name(name := relative_name(file, plan.dataset))[0]
        and not judge_image_name(name)[0]
    ]
    contents = read_ahead(uploads, [file for _, _, file in chosen])
    for (index, name, _), data in zip(chosen, contents, strict=True):
        yield RawImage(plan.source_name, index, name, data)


class _Pixels:
    """Collects decoded images: Pillow joins a batch of them below each other, and the batch becomes an array at once.

    Args:
        form: What the images are decoded to.
        most: The most images that may come.
        near: Whether to make perceptual hashes.
    """

    def __init__(self, form: ImageInput, most: int, near: bool) -> None:
        self._form = form
        self._shape = (form.channels, form.height, form.width)
        self._batch = max(1, min(_BATCH, most, _BATCH_BYTES // (4 * form.height * form.width)))
        mode = "L" if form.channels == 1 else _CANVAS_MODES[form.color]
        self._canvas = Image.new(mode, (form.width, form.height * self._batch))
        self._waiting = 0
        self._near = near
        self._count = 0
        self._images = np.empty((most, *self._shape), np.uint8)
        self._digests: list[bytes] = []
        self._hashes: list[NDArray[np.uint64]] = []
        # The beginning of `content_hash(b"image", shape, pixels)`, which all images share.
        header = repr(self._shape).encode()
        size = form.channels * form.height * form.width
        parts = (b"image", header)
        start = b"".join(len(part).to_bytes(8, "little") + part for part in parts) + size.to_bytes(8, "little")
        self._digest = hashlib.sha256(start)

    def add(self, image: Image.Image) -> None:
        """Take one image of the right size and mode."""
        top, width, height = self._form.height * self._waiting, self._form.width, self._form.height
        self._canvas.paste(image, (0, top, width, top + height))
        self._waiting += 1
        if self._waiting == self._batch:
            self._flush()

    def _flush(self) -> None:
        count, (channels, height, width) = self._waiting, self._shape
        if not count:
            return
        joined = np.asarray(self._canvas, np.uint8)[: count * height].reshape(count, height, width, channels)
        images = self._images[self._count : self._count + count]
        images[:] = joined.transpose(0, 3, 1, 2)
        flat, size = images.data.cast("B"), channels * height * width
        for start in range(0, count * size, size):
            digest = self._digest.copy()
            digest.update(flat[start : start + size])
            self._digests.append(digest.digest()[:HASH_BYTES])
        if self._near:
            self._hashes.append(near_hashes(images, self._form.color))
        self._count += count
        self._waiting = 0

    def tensors(self) -> Tensors:
        """`image` uint8 [N,C,H,W], its hashes uint8 [N,16], and the perceptual ones uint64 [N,18] if asked for."""
        self._flush()
        digests = np.frombuffer(b"".join(self._digests), np.uint8).reshape(self._count, HASH_BYTES)
        found: Tensors = {"image": self._images[: self._count], FEATURE_HASH: digests, ROW_HASH: digests}
        if self._near:
            found[NEAR_HASH] = np.concatenate(self._hashes)
        return found
