"""The bytes of a request's body, unpacked within bounds."""

from __future__ import annotations

import zlib

from shoal_core.errors import BadRequest, TooLarge

MAX_UNPACKED_BYTES = 32 * 1024**2
# 16 more than the window's bits mean a gzip header; 32 more mean gzip or zlib, whichever it is.
_WINDOWS = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": 32 + zlib.MAX_WBITS}


def unpacked(body: bytes, encoding: str) -> bytes:
    """A body as its `Content-Encoding` says: gzip, deflate or identity.

    Raises:
        BadRequest: Another encoding, or bytes that aren't of it.
        TooLarge: More than `MAX_UNPACKED_BYTES`.
    """
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return body
    if name not in _WINDOWS:
        raise BadRequest(f"Content-Encoding {name[:40]!r} isn't supported.", "Send gzip, deflate, or none.")
    stream = zlib.decompressobj(_WINDOWS[name])
    try:
        data = stream.decompress(body, MAX_UNPACKED_BYTES + 1)
    except zlib.error as error:
        raise BadRequest(f"The body isn't {name}: {error}.", "Send it as Content-Encoding says.") from error
    if len(data) > MAX_UNPACKED_BYTES:
        raise TooLarge(f"The body unpacks to more than {MAX_UNPACKED_BYTES:,} bytes.", "Send less at once.")
    if not stream.eof:
        raise BadRequest(f"The body's {name} is cut short.", "Send all of it.")
    return data
