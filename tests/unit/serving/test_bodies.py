"""Compressed bodies are unpacked within bounds; what isn't what it says is refused."""

import gzip
import zlib

import pytest

from shoal_core.errors import BadRequest, TooLarge
from shoal_core.serving.bodies import MAX_UNPACKED_BYTES, unpacked

DATA = b"some text " * 100


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("", DATA),
        ("identity", DATA),
        ("gzip", gzip.compress(DATA, mtime=0)),
        ("GZIP ", gzip.compress(DATA, mtime=0)),
        ("gzip", gzip.compress(DATA[:300], mtime=0) + gzip.compress(b"", mtime=0) + gzip.compress(DATA[300:], mtime=0)),
        ("deflate", zlib.compress(DATA)),
    ],
)
def test_a_body_comes_out_as_it_went_in(encoding, body):
    assert unpacked(body, encoding) == DATA


@pytest.mark.parametrize(
    ("encoding", "body", "reason"),
    [
        ("br", DATA, "'br' isn't supported"),
        ("gzip", DATA, "isn't gzip"),
        ("deflate", DATA, "isn't deflate"),
        ("gzip", gzip.compress(DATA, mtime=0)[:-9], "cut short"),
        ("gzip", b"", "cut short"),
        ("gzip", gzip.compress(DATA, mtime=0) + b"and more", "isn't gzip"),
        ("gzip", gzip.compress(DATA, mtime=0) + gzip.compress(DATA, mtime=0)[:-9], "cut short"),
        ("deflate", zlib.compress(DATA)[:-9], "cut short"),
        ("deflate", zlib.compress(DATA) + b"and more", "8 bytes are left"),
    ],
)
def test_a_wrong_body_is_refused(encoding, body, reason):
    with pytest.raises(BadRequest) as caught:
        unpacked(body, encoding)
    assert reason in caught.value.reason


def test_a_bomb_is_refused():
    half = gzip.compress(b"\0" * (MAX_UNPACKED_BYTES // 2))
    for body, encoding in ((half + half + gzip.compress(b"\0"), "gzip"), (zlib.compress(b"\0" * 2**26), "deflate")):
        with pytest.raises(TooLarge, match="unpacks to more than"):
            unpacked(body, encoding)
