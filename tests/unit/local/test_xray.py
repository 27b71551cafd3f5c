import pytest

from shoal.local.xray import read_segment

HEADER = b'{"format": "json", "version": 1}'


@pytest.mark.parametrize(
    ("datagram", "document"),
    [
        (HEADER + b'\n{"id": "1"}', '{"id": "1"}'),
        (HEADER, None),
        (b'{"format": "binary"}\n{}', None),
        (HEADER + b"\nnot json", None),
        (b"\xff\n{}", None),
        (b"[]\n{}", None),
    ],
)
def test_datagrams(datagram, document):
    assert read_segment(datagram) == document
