"""A stream that refuses to be read past what it may hold."""

from __future__ import annotations

import io
from typing import BinaryIO

from shoal_core.errors import BadArchive


class GuardedStream(io.RawIOBase):
    """Reads another seekable stream and raises `BadArchive` beyond a position, or for one read that is too large.

    A compressed stream's true size is only known by reading it, and a header may ask for any number of bytes: both
    are checked before anything is read.
    """

    def __init__(self, stream: BinaryIO, name: str, most: int, largest_read: int) -> None:
        self._stream = stream
        self._name = name
        self._most = most
        self._largest_read = largest_read

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True; seeking from the end isn't."""
        return True

    def tell(self) -> int:
        """Position in bytes."""
        return self._stream.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position that may be held. Raises `BadArchive` beyond it."""
        if whence == io.SEEK_END:
            raise io.UnsupportedOperation("the end of a compressed stream isn't known")
        target = offset if whence == io.SEEK_SET else self._stream.tell() + offset
        self._check(target)
        return self._stream.seek(target)

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes. Raises `BadArchive` for an unbounded or too large read."""
        if size < 0 or size > self._largest_read:
            raise BadArchive(
                f"{self._name!r} has a header that asks for more than {self._largest_read:,} bytes.",
                "Make the archive again with ordinary tools.",
            )
        data = self._stream.read(size)
        self._check(self._stream.tell())
        return data

    def _check(self, position: int) -> None:
        # One block of slack: tar readers look one block past the end.
        if position > self._most + 1024:
            raise BadArchive(
                f"{self._name!r} holds more than {self._most:,} bytes, or is cut short: a bomb, or a damaged archive.",
                "Make the archive again and upload it whole; pack image files as they are.",
            )
