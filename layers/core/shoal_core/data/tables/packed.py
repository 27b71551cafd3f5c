"""Tables that can't be read from the middle: packed ones, UTF-16 and JSON arrays, as a stream of plain lines.

What comes out is UTF-8 (or, of a packed file, whatever its bytes are) in lines: CSV, or one JSON value a line.
"""

from __future__ import annotations

import codecs
import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator
from typing import IO, Any, BinaryIO, cast

from shoal_core.data.tables.formats import BOM, MAX_LINE_BYTES, Packing, TableFormat
from shoal_core.errors import BadTable, TooLarge

CHUNK = 1024**2
MAX_UNPACKED = 100 * 1024**3
_SPACE = " \t\r\n"
_NUMBER_PARTS = ("", ".", "e", "E")


def plain_chunks(stream: BinaryIO, name: str, form: TableFormat) -> Iterator[bytes]:
    """A table's bytes as lines that `blocks.read_blocks` reads.

    Args:
        stream: The file.
        name: Its name, for errors.
        form: Its format.

    Raises:
        BadTable: It is damaged, or no JSON.
        TooLarge: It unpacks to more than 100 GiB.
        UnicodeDecodeError: The bytes aren't in the format's encoding.
    """
    chunks = unpacked_chunks(stream, name, form.packing)
    if form.kind == "json":
        return _json_lines(_decoded(chunks, form, name), name)
    if form.encoding == "utf-16":
        return (text.encode() for text in _decoded(chunks, form, name))
    return chunks


def unpacked_chunks(stream: BinaryIO, name: str, packing: Packing | None) -> Iterator[bytes]:
    """The bytes of a file, unpacked. Raises `BadTable` or `TooLarge`."""
    stream.seek(0)
    total = 0
    try:
        reader = _reader(stream, packing)
        while chunk := reader.read(CHUNK):
            total += len(chunk)
            if total > MAX_UNPACKED:
                raise TooLarge(f"{name!r} unpacks to more than 100 GiB.", "Upload it in several files.")
            yield chunk
    except _errors(packing) as error:
        raise BadTable(f"{name!r} is damaged or not {packing}: {error}.", "Pack it again and upload it.") from error


def _reader(stream: BinaryIO, packing: Packing | None) -> IO[bytes]:
    if packing == "gzip":
        return cast("IO[bytes]", gzip.GzipFile(fileobj=stream))
    if packing == "zstd":
        import zstandard  # here, since few tables are packed with it

        found: IO[bytes] = zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(
            stream, read_across_frames=True
        )
        return found
    return stream


def _errors(packing: Packing | None) -> tuple[type[Exception], ...]:
    """What unpacking raises on bytes that aren't packed so."""
    if packing == "gzip":
        return (gzip.BadGzipFile, EOFError, zlib.error)
    if packing == "zstd":
        import zstandard

        return (zstandard.ZstdError,)
    return ()


def _decoded(chunks: Iterable[bytes], form: TableFormat, name: str) -> Iterator[str]:
    """Text without a byte order mark."""
    if form.encoding == "cp1252":
        decoder = codecs.getincrementaldecoder("cp1252")("replace")
    else:
        decoder = codecs.getincrementaldecoder("utf-16" if form.encoding == "utf-16" else "utf-8-sig")()
    try:
        for chunk in chunks:
            yield decoder.decode(chunk)
        yield decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        if form.encoding != "utf-16":
            raise
        raise BadTable(f"{name!r} isn't the UTF-16 text that its first bytes promise.", "Save it as UTF-8.") from error


def _json_lines(texts: Iterator[str], name: str) -> Iterator[bytes]:
    """The items of a JSON array, or values one after the other, each as one line."""
    source = _JsonSource(texts, name)
    inside = source.peek() == "["
    if inside:
        source.skip()
    first = True
    while (mark := source.peek()) and not (inside and mark == "]"):
        if inside and not first:
            if mark != ",":
                source.fail("a comma is missing")
            source.skip()
        yield source.value().replace("\r", " ").replace("\n", " ").encode("utf-8", "replace") + b"\n"
        first = False
    if inside and not mark:
        source.fail("the array isn't closed")


class _JsonSource:
    """Values of a JSON text, read as far as they are needed; memory is bounded by one value."""

    def __init__(self, texts: Iterator[str], name: str) -> None:
        self._texts = texts
        self._name = name
        self._decoder = json.JSONDecoder()
        self._buffer = ""
        self._place = 0
        self._row = 0

    def peek(self) -> str:
        """The next character that isn't white; empty at the end."""
        while True:
            while self._place < len(self._buffer):
                if self._buffer[self._place] not in _SPACE:
                    return self._buffer[self._place]
                self._place += 1
            if not self._more():
                return ""

    def skip(self) -> None:
        """Go over one character."""
        self._place += 1

    def value(self) -> str:
        """The text of the next value."""
        self._row += 1
        self.peek()
        wanted = 0
        while True:
            try:
                _, end = self._decoder.raw_decode(self._buffer, self._place)
            except (ValueError, RecursionError) as error:
                problem = str(error)[:100]
                if len(self._buffer) - self._place > MAX_LINE_BYTES:
                    problem = f"it has more than {MAX_LINE_BYTES:,} characters"
                    self.fail(problem)
                wanted = max(wanted * 2, CHUNK)
                if not self._more(wanted):
                    self.fail(problem)
                continue
            # A number may go on in what isn't read yet, also after the point or exponent that it seems to end before.
            if self._buffer[end : end + 1] in _NUMBER_PARTS and self._more():
                continue
            text, self._place = self._buffer[self._place : end], end
            return text

    def fail(self, problem: str) -> None:
        """Raise `BadTable` for the present row."""
        raise BadTable(
            f"{self._name!r}: row {max(1, self._row)} can't be read as JSON: {problem}.",
            "Write an array of objects, or one object per line in a .jsonl file.",
        )

    def _more(self, wanted: int = 1) -> bool:
        """Read on; False at the end."""
        rest, read = [self._buffer[self._place :]], 0
        for text in self._texts:
            rest.append(text)
            read += len(text)
            if read >= wanted:
                break
        self._buffer, self._place = "".join(rest), 0
        return read > 0


class Window(io.RawIOBase):
    """A stream of chunks as a file that can be read again from `keep_from` on; what lies before is forgotten."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._data = bytearray()
        self._base = 0
        self._place = 0

    def readable(self) -> bool:
        """Whether it can be read."""
        return True

    def seekable(self) -> bool:
        """Whether it can be read again."""
        return True

    def tell(self) -> int:
        """The offset at which the next byte is read."""
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to an offset that isn't forgotten."""
        if whence != io.SEEK_SET or offset < self._base:
            raise io.UnsupportedOperation(f"can't go to {offset}, what lies before {self._base} is gone")
        self._place = offset
        return offset

    def keep_from(self, offset: int) -> bytes:
        """Forget what lies before an offset, and return it."""
        self._fill(offset)
        gone = bytes(self._data[: offset - self._base])
        del self._data[: offset - self._base]
        self._base = offset
        return gone

    def read(self, size: int | None = -1) -> bytes:
        """Up to `size` bytes; all that is left when it is negative."""
        stop = self._place + size if size is not None and size >= 0 else None
        self._fill(stop)
        data = bytes(self._data[self._place - self._base : None if stop is None else stop - self._base])
        self._place += len(data)
        return data

    def readline(self, size: int | None = -1) -> bytes:
        """One line, or up to `size` bytes of it."""
        limit = MAX_LINE_BYTES * 2 if size is None or size < 0 else size
        searched = self._place
        while True:
            found = self._data.find(b"\n", searched - self._base)
            known = self._base + len(self._data)
            if found >= 0 or known - self._place >= limit or not self._fill(known + 1):
                break
            searched = known
        stop = self._base + found + 1 if found >= 0 else self._base + len(self._data)
        return self.read(min(stop - self._place, limit))

    def _fill(self, stop: int | None) -> bool:
        """Read chunks until `stop` is known; whether anything was read."""
        read = False
        while stop is None or self._base + len(self._data) < stop:
            chunk = next(self._chunks, None)
            if chunk is None:
                return read
            self._data += chunk
            read = True
        return read

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - a writable buffer
        """Read into a buffer."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def without_mark(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Chunks without the UTF-8 byte order mark at the beginning."""
    first = next(chunks, b"")
    yield first.removeprefix(BOM)
    yield from chunks
