"""The bytes of a request's body, unpacked within bounds."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable, Mapping

from shoal_core.errors import BadRequest, TooLarge

MAX_UNPACKED_BYTES = 32 * 1024**2
_EITHER_HEADER = 32 + zlib.MAX_WBITS
"""32 more than the window's bits mean gzip or zlib, whichever it is."""


def unpacked(body: bytes, encoding: str) -> bytes:
    """A body as its `Content-Encoding` says: gzip (all its members), deflate or identity.

    Raises:
        BadRequest: Another encoding, or bytes that aren't of it.
        TooLarge: More than `MAX_UNPACKED_BYTES`.
    """
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return body
    if name not in _UNPACK:
        raise BadRequest(f"Content-Encoding {name[:40]!r} isn't supported.", "Send gzip, deflate, or none.")
    try:
        data = _UNPACK[name](body)
    except EOFError as error:
        raise BadRequest(f"The body's {name} is cut short.", "Send all of it.") from error
    except (zlib.error, gzip.BadGzipFile) as error:
        raise BadRequest(f"The body isn't {name}: {error}.", "Send it as Content-Encoding says.") from error
    if len(data) > MAX_UNPACKED_BYTES:
        raise TooLarge(f"The body unpacks to more than {MAX_UNPACKED_BYTES:,} bytes.", "Send less at once.")
    return data


def _gunzipped(body: bytes) -> bytes:
    if not body:
        raise EOFError
    with gzip.GzipFile(fileobj=io.BytesIO(body)) as stream:
        return stream.read(MAX_UNPACKED_BYTES + 1)


def _inflated(body: bytes) -> bytes:
    stream = zlib.decompressobj(_EITHER_HEADER)
    data = stream.decompress(body, MAX_UNPACKED_BYTES + 1)
    if not stream.eof and len(data) <= MAX_UNPACKED_BYTES:
        raise EOFError
    if stream.unused_data:
        raise zlib.error(f"{len(stream.unused_data):,} bytes are left behind its end")
    return data


_UNPACK: Mapping[str, Callable[[bytes], bytes]] = {"gzip": _gunzipped, "x-gzip": _gunzipped, "deflate": _inflated}
