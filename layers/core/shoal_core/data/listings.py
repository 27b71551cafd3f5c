"""Listings: the files of a set too large for one document, as gzipped JSONL objects of at most 10,000 lines.

A part is named by its content, so writing it again, or from an event that came twice, changes nothing.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterable, Iterator

from shoal_core.data.canonical import canonical_json
from shoal_core.data.config import ListingPart, SourceFile
from shoal_core.errors import BadInput
from shoal_core.keys import listing_key
from shoal_core.store import ObjectStore

PART_FILES = 10_000


def write_part(
    artifacts: ObjectStore, dataset: str, files: Iterable[SourceFile], folder: str | None = None
) -> ListingPart:
    """Write one part of a listing; the same files end in the same object. `folder` is where, if not with a dataset."""
    lines = [canonical_json(file.model_dump(mode="json", exclude_defaults=True)) for file in files]
    # Level 6 as of zlib's default; no time stamp, so that bytes depend on the files alone.
    data = gzip.compress(b"\n".join(lines) + b"\n", 6, mtime=0)
    digest = hashlib.sha256(data).hexdigest()
    key = listing_key(dataset, digest) if folder is None else f"{folder}{digest}.jsonl.gz"
    artifacts.write(key, data, "application/gzip")
    return ListingPart(key=key, count=len(lines), bytes=len(data))


def decode_part(data: bytes, part: ListingPart) -> tuple[SourceFile, ...]:
    """The files of one part. Raises `BadInput` when they aren't those that the request means."""
    try:
        files = tuple(SourceFile.model_construct(**json.loads(line)) for line in gzip.decompress(data).splitlines())
    except (OSError, EOFError, ValueError, TypeError) as error:
        raise BadInput(f"The listing {part.key!r} can't be read: {error}.", "Write dataset.yaml again.") from error
    if len(files) != part.count or hashlib.sha256(data).hexdigest() not in part.key:
        raise BadInput(f"The listing {part.key!r} isn't what was written there.", "Write dataset.yaml again.")
    return files


def in_parts(files: Iterable[SourceFile], size: int = PART_FILES) -> Iterator[list[SourceFile]]:
    """Cut files into lists of at most `size`."""
    part: list[SourceFile] = []
    for file in files:
        part.append(file)
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part
