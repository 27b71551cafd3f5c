"""Encoding the images of one work item: raw files in, pixels with content hashes out."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from shoal_core.data.archives import judge_name, read_members
from shoal_core.data.config import DatasetRequest
from shoal_core.data.images.folders import class_of, folder_of, judge_image_name
from shoal_core.data.images.planning import MAX_IMAGE_BYTES
from shoal_core.data.pieces import FEATURE_HASH, PLACE, ROW_HASH, hash_array
from shoal_core.data.plan import ArchiveSlice, ObjectSlice, Plan
from shoal_core.data.report import DropTally
from shoal_core.data.requests import loose_files, relative_name
from shoal_core.data.shards import Tensors
from shoal_core.data.splits import content_hash
from shoal_core.errors import BadInput
from shoal_core.store import ObjectStore


def encode_images(
    uploads: ObjectStore, request: DatasetRequest, plan: Plan, item: ArchiveSlice | ObjectSlice, drops: DropTally
) -> Tensors | None:
    """Encode a slice of an archive or of loose files; None when no sample is left. See `samples.encode_item`."""
    if isinstance(item, ArchiveSlice):
        return _encode_images(_archive_images(uploads, plan, item, drops), plan, drops)
    return _encode_images(_object_images(uploads, request, plan, item), plan, drops)


def _archive_images(
    uploads: ObjectStore, plan: Plan, item: ArchiveSlice, drops: DropTally
) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of a slice's images; refused members were counted by planning, damaged ones are counted here."""
    source = plan.one_source
    with uploads.open(source.key, source.version) as stream:
        members = read_members(stream, plan.source_name, source.size, item.first, item.last, item.offset)
        for member, data in members:
            if member.code == "damaged":
                reason = f"{member.name!r}: {member.reason}."
                drops.add(plan.source_name, member.name, member.code, reason, member.fix)
            elif not member.code and not judge_image_name(member.name)[0]:
                yield member.name, data


def _object_images(
    uploads: ObjectStore, request: DatasetRequest, plan: Plan, item: ObjectSlice
) -> Iterator[tuple[str, bytes]]:
    for file in loose_files(request)[item.first : item.last]:
        name = relative_name(file, plan.dataset)
        if not judge_name(name)[0] and not judge_image_name(name)[0] and file.size <= MAX_IMAGE_BYTES:
            yield name, uploads.read(file.key, file.version)


def _encode_images(images: Iterator[tuple[str, bytes]], plan: Plan, drops: DropTally) -> Tensors | None:
    pixels: list[NDArray[np.uint8]] = []
    labels: list[str] = []
    hashes: list[bytes] = []
    places: list[str] = []
    shape = repr(plan.spec.tensor_shapes()["image"]).encode()
    for name, data in images:
        label = class_of(folder_of(name), plan.root)
        if label is None:
            fix = "Move it into the folder of its class."
            drops.add(plan.source_name, name, "no_class_folder", f"{name!r} lies outside class folders.", fix)
            continue
        try:
            image = plan.spec.encode_image(data, repr(name))
        except BadInput as error:
            drops.add(plan.source_name, name, "bad_image", error.reason, error.fix)
            continue
        pixels.append(image)
        labels.append(label)
        places.append(name)
        hashes.append(content_hash(b"image", shape, image.tobytes()))
    if not pixels:
        return None
    digests = hash_array(hashes)
    target = plan.spec.encode_target(labels)
    hashed = {FEATURE_HASH: digests, ROW_HASH: digests, PLACE: np.array(places, object)}
    return {"image": np.stack(pixels), "target": target, **hashed}
