"""`StreamStore` over one S3 bucket."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any, BinaryIO, Self

from botocore.exceptions import ClientError

from shoal_core.aws.clients import client, error_code, service_errors
from shoal_core.aws.config import environment
from shoal_core.errors import Conflict, NotFound, NotPermitted

_MISSING = frozenset({"NoSuchKey", "NoSuchVersion", "404", "NotFound", "NoSuchBucket", "KeyTooLongError"})
_CHANGED = frozenset({"PreconditionFailed", "412"})
_DENIED = frozenset({"AccessDenied", "403"})
_READS = frozenset({"GetObject", "HeadObject"})
READ_AHEAD = 1 << 20
PART_BYTES = 16 * 1024**2


class S3Store:
    """Objects of one bucket. Raises `NotFound` for what isn't there and `Unavailable` when S3 doesn't answer."""

    def __init__(self, bucket: str) -> None:
        self.bucket = bucket

    def in_bucket(self, bucket: str) -> Self:
        """The same kind of store over another bucket."""
        return type(self)(bucket)

    def _arguments(self, key: str, version: str | None, etag: str | None = None) -> dict[str, Any]:
        arguments: dict[str, Any] = {"Bucket": self.bucket, "Key": key}
        if version is not None:
            arguments["VersionId"] = version
        if etag is not None:
            arguments["IfMatch"] = f'"{etag}"'
        return arguments

    def read(self, key: str, version: str | None = None, etag: str | None = None) -> bytes:
        """All bytes of an object."""
        with self._named(key):
            return bytes(client("s3").get_object(**self._arguments(key, version, etag))["Body"].read())

    def open(self, key: str, version: str | None = None, etag: str | None = None) -> BinaryIO:
        """A seekable reader that fetches ranges of at least 1 MiB as they are read."""
        raw = _RangeReader(self, key, version, etag, self.head(key, version, etag)["ContentLength"])
        return io.BufferedReader(raw, buffer_size=READ_AHEAD)

    def head(self, key: str, version: str | None = None, etag: str | None = None) -> dict[str, Any]:
        """S3's own description of an object: ContentLength, ETag, LastModified, VersionId."""
        with self._named(key):
            return dict(client("s3").head_object(**self._arguments(key, version, etag)))

    def read_range(self, key: str, start: int, stop: int, version: str | None = None, etag: str | None = None) -> bytes:
        """Bytes [start, stop) of an object."""
        arguments = self._arguments(key, version, etag)
        with self._named(key):
            return bytes(client("s3").get_object(**arguments, Range=f"bytes={start}-{stop - 1}")["Body"].read())

    def exists(self, key: str) -> bool:
        """Whether the object exists now."""
        try:
            self.head(key)
        except NotFound:
            return False
        return True

    def keys(self, prefix: str) -> Iterator[str]:
        """Keys under a prefix, in UTF-8 binary order, as S3 lists them."""
        for entry in self.entries(prefix):
            yield entry["Key"]

    def entries(self, prefix: str) -> Iterator[dict[str, Any]]:
        """Current objects under a prefix as S3 lists them: Key, Size, ETag, LastModified."""
        with self._named(prefix):
            for page in client("s3").get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix):
                yield from page.get("Contents", ())

    def write(self, key: str, data: bytes | bytearray, content_type: str = "application/octet-stream") -> None:
        """Write or overwrite an object."""
        with self._named(key):
            client("s3").put_object(Bucket=self.bucket, Key=key, Body=data, ContentType=content_type)

    def write_new(self, key: str, data: bytes, content_type: str = "application/octet-stream") -> bool:
        """Write an object unless one is there; False when one was.

        Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
        """
        try:
            with self._named(key):
                client("s3").put_object(
                    Bucket=self.bucket, Key=key, Body=data, ContentType=content_type, IfNoneMatch="*"
                )
        except ClientError as error:
            # 409: another conditional write of the same key is under way; it will win.
            if error_code(error) in {"PreconditionFailed", "ConditionalRequestConflict"}:
                return False
            raise
        return True

    def write_stream(self, key: str, chunks: Iterable[bytes], content_type: str = "application/octet-stream") -> None:
        """Write or overwrite an object from its bytes in order, in memory of about `PART_BYTES`.

        Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html (10,000 parts of at least 5 MB).
        """
        parts = _in_parts(chunks)
        first = next(parts, b"")
        second = next(parts, None)
        if second is None:
            self.write(key, first, content_type)
            return
        target = {"Bucket": self.bucket, "Key": key}
        with self._named(key):
            s3 = client("s3")
            upload = {**target, "UploadId": s3.create_multipart_upload(**target, ContentType=content_type)["UploadId"]}
            try:
                done = [
                    {"PartNumber": number, "ETag": s3.upload_part(**upload, PartNumber=number, Body=part)["ETag"]}
                    for number, part in enumerate(chain((first, second), parts), 1)
                ]
                s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": done})
            except BaseException:
                s3.abort_multipart_upload(**upload)
                raise

    @contextmanager
    def _named(self, key: str) -> Iterator[None]:
        """Name the object in whatever S3 says about it."""
        url = f"s3://{self.bucket}/{key}"
        try:
            with service_errors(url):
                yield
        except ClientError as error:
            code = error_code(error)
            if code in _MISSING:
                raise NotFound(f"{url} doesn't exist.") from error
            if code in _CHANGED and error.operation_name in _READS:
                raise Conflict(
                    f"{url} has changed since it was listed.",
                    "Write dataset.yaml again, which makes a version of what is there now.",
                ) from error
            if code in _DENIED and self.bucket not in (environment().bucket, environment().artifacts_bucket):
                raise NotPermitted(
                    f"The stack may not read {url}, or it doesn't exist.",
                    f"Deploy the stack with the parameter SourceBuckets holding arn:aws:s3:::{self.bucket}.",
                ) from error
            raise


def _in_parts(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in parts of `PART_BYTES`, the last one shorter."""
    buffer = bytearray()
    for chunk in chunks:
        buffer += chunk
        while len(buffer) >= PART_BYTES:
            yield bytes(buffer[:PART_BYTES])
            del buffer[:PART_BYTES]
    if buffer:
        yield bytes(buffer)


class _RangeReader(io.RawIOBase):
    """Random access over an object, one ranged GET per read."""

    def __init__(self, store: S3Store, key: str, version: str | None, etag: str | None, size: int) -> None:
        self._store, self._key, self._version, self._etag, self._size = store, key, version, etag, size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - a writable buffer
        stop = min(self._position + len(buffer), self._size)
        if stop <= self._position:
            return 0
        data = self._store.read_range(self._key, self._position, stop, self._version, self._etag)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)
