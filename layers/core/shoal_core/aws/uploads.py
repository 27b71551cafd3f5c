"""The bucket that users write to."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import chain

from shoal_core.aws.clients import client
from shoal_core.aws.s3 import S3Store
from shoal_core.data.config import SourceFile

BLOCK = 1 << 20


class UploadStore(S3Store):
    """`shoal_core.registry.ingesting.Uploads` over S3."""

    def fingerprint(self, key: str, version: str | None = None) -> SourceFile:
        """An object's exact version, size and sha256, from one streaming GET in bounded memory."""
        digest, size = hashlib.sha256(), 0
        with self._named(key):
            answer = client("s3").get_object(**self._arguments(key, version))
            for block in answer["Body"].iter_chunks(BLOCK):
                digest.update(block)
                size += len(block)
        return SourceFile(key=key, version=answer.get("VersionId", version), size=size, sha256=digest.hexdigest())

    def describe(self, key: str, version: str | None = None) -> SourceFile:
        """An object's exact version, size and ETag, without reading it. Raises `NotFound`."""
        head = self.head(key, version)
        return _file(key, head["ContentLength"], head["ETag"], _version(head.get("VersionId")))

    def listing(self, prefix: str, after: str = "") -> Iterator[SourceFile]:
        """Current objects whose keys begin with `prefix` and come after `after`, in UTF-8 order: size and ETag.

        Versions aren't told: a foreign bucket may have none. What changes later is refused by its ETag.
        """
        arguments = {"StartAfter": after} if after else {}
        with self._named(prefix):
            pages = client("s3").get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self.bucket, Prefix=prefix, **arguments):
                for entry in page.get("Contents", ()):
                    yield _file(entry["Key"], entry["Size"], entry["ETag"])

    def versions(self, prefix: str) -> Iterator[SourceFile]:
        """Current objects whose keys begin with `prefix`, in UTF-8 order: S3 version, size and ETag.

        A listing isn't atomic, but each entry is pinned: later writes make other versions.
        """
        with self._named(prefix):
            pages = client("s3").get_paginator("list_object_versions").paginate(Bucket=self.bucket, Prefix=prefix)
            for entry in chain.from_iterable(page.get("Versions", ()) for page in pages):
                if entry["IsLatest"]:
                    yield _file(entry["Key"], entry["Size"], entry["ETag"], _version(entry.get("VersionId")))

    def modified(self, key: str, version: str | None = None) -> str:
        """When the object was last written, ISO 8601 in UTC (whole seconds, as S3 tells it)."""
        return str(self.head(key, version)["LastModified"].isoformat())


def _file(key: str, size: int, etag: str, version: str | None = None) -> SourceFile:
    # A million of them: nothing that S3 says needs validating, and a default that is given needs no looking up.
    return SourceFile.model_construct(
        key=key, version=version, size=size, etag=etag.strip('"'), name=None, sha256=None, bucket=None
    )


def _version(version: str | None) -> str | None:
    """An object's version id; what a bucket without versions calls "null" can be overwritten, so it pins nothing."""
    return None if version == "null" else version
