"""Encoding the images of one work item: raw files in, pixels with content hashes out."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shoal_core.data.images.decoding import fit_image
from shoal_core.data.images.folders import class_of, folder_of, judge_image_name
from shoal_core.data.images.gathering import MAX_FILE_BYTES, Judged
from shoal_core.data.images.item_labels import read_item_labels
from shoal_core.data.images.perceptual import near_hashes
from shoal_core.data.images.png import Scratch
from shoal_core.data.images.raw_files import RawFile, read_files
from shoal_core.data.pieces import FEATURE_HASH, NEAR_HASH, PLACE, ROW_HASH, TARGET
from shoal_core.data.plan import ArchiveSlice, ObjectSlice, Plan
from shoal_core.data.quality.headers import ImageSources
from shoal_core.data.report import DropTally
from shoal_core.data.requests import FileList
from shoal_core.data.shards import Tensors
from shoal_core.data.spec import ImageInput
from shoal_core.data.splits import HASH_BYTES
from shoal_core.errors import BadInput
from shoal_core.store import ObjectStore

MAX_IMAGE_BYTES = MAX_FILE_BYTES
# Images that are taken out of Pillow at once: the call costs more than the pixels of a small image.
_BATCH = 256
_BATCH_BYTES = 4 * 1024**2
_CANVAS_MODES = {"rgb": "RGB", "hsv": "HSV", "ycbcr": "YCbCr"}


def judge_image(name: str, size: int) -> Judged:
    """Whether a file of that name and so many bytes can be a sample."""
    judged = judge_image_name(name)
    if judged[0] or size <= MAX_IMAGE_BYTES:
        return judged
    return "too_large", f"it has {size:,} bytes", "Scale the image down before uploading."


def encode_images(
    uploads: ObjectStore, artifacts: ObjectStore, files: FileList, plan: Plan, number: int, drops: DropTally
) -> Tensors | None:
    """Encode work item `number`, a slice of an archive or of loose files; None when no sample is left.

    See `samples.encode_item`. `near_hash` uint64 [N,18] comes along unless near-duplicates are off, and `group` or
    `time` where the settings split by them.
    """
    item = plan.items[number]
    form = plan.spec.image
    if form is None or not isinstance(item, ArchiveSlice | ObjectSlice):
        raise BadInput(f"Work item {number} of {plan.dataset!r} holds no images.", "Upload the data again.")
    images = read_files(uploads, artifacts, files, plan, number, judge_image, drops)
    known = read_item_labels(artifacts, plan, number)
    folders = None if plan.labelled else _FolderClasses(plan, drops)
    pixels = _Pixels(form, item.last - item.first, plan.config.near_duplicates != "off")
    rows: list[int] = []
    codes: list[int] = []
    places: list[str] = []
    sources = ImageSources()
    scratch: Scratch = {}
    for image in images:
        row = 0 if known is None else known.row(image.number)
        code = 0 if folders is None else folders.code(image)
        if row is None or code is None:
            continue
        try:
            pixels.add(fit_image(image.data, form, repr(image.name), scratch))
        except BadInput as error:
            drops.add(image.source, image.name, "bad_image", error.reason, error.fix, raw=image.data)
            continue
        sources.add(image.data)
        drops.encode(image.source, 1)
        rows.append(row)
        codes.append(code)
        places.append(image.name)
    sources.tell(drops)
    if not rows:
        return None
    found = {} if known is None else known.gather(rows)
    if folders is not None:
        found[TARGET] = np.array(codes, np.int64)
    return {**pixels.tensors(), **found, PLACE: np.array(places, object)}


class _FolderClasses:
    """The class of an image is the folder that holds it."""

    def __init__(self, plan: Plan, drops: DropTally) -> None:
        self._plan = plan
        self._drops = drops
        self._codes: dict[str, int | None] = {}

    def code(self, image: RawFile) -> int | None:
        """The number of an image's class; None for one outside class folders, which is told."""
        folder = folder_of(image.name)
        if folder not in self._codes:
            label = class_of(folder, self._plan.root)
            self._codes[folder] = None if label is None else int(self._plan.spec.encode_target([label])[0])
        code = self._codes[folder]
        if code is None:
            reason, fix = f"{image.name!r} lies outside class folders.", "Move it into the folder of its class."
            self._drops.add(image.source, image.name, "no_class_folder", reason, fix, raw=image.data)
        return code


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
