"""The bucket that users write to."""

from __future__ import annotations

import hashlib

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

    def modified(self, key: str, version: str | None = None) -> str:
        """When the object was last written, ISO 8601 in UTC (whole seconds, as S3 tells it)."""
        return str(self.head(key, version)["LastModified"].isoformat())
