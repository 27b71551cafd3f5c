"""Forms as real clients write them, byte by byte; and broken ones."""

from __future__ import annotations

import pytest
import urllib3
from hypothesis import given
from hypothesis import strategies as st

from shoal_core.errors import BadRequest, TooLarge
from shoal_core.serving.forms import MAX_PARTS, read_multipart, read_urlencoded

TYPE = "multipart/form-data; boundary=mark"


@given(st.lists(st.binary(max_size=200), min_size=1, max_size=5))
def test_files_come_through_byte_by_byte(files: list[bytes]) -> None:
    fields = [("file", (f"{number}.bin", data, "image/png")) for number, data in enumerate(files)]
    body, content_type = urllib3.encode_multipart_formdata(fields)
    parts = read_multipart(body, content_type)
    assert [part.data for part in parts] == files
    assert [part.filename for part in parts] == [f"{number}.bin" for number in range(len(files))]
    assert {part.content_type for part in parts} == {"image/png"}


def test_fields_and_quoted_names_and_a_preamble() -> None:
    body = (
        b'preamble\r\n--mark\r\nContent-Disposition: form-data; name="a\\"b"\r\n\r\n\r\n--mark \t\r\n'
        b'content-disposition: form-data; filename="x.PNG"; name="file"\r\nContent-Type: Image/PNG; x=1\r\n\r\n'
        b"\x00\r\n\xff\r\n--mark--\r\nepilogue"
    )
    empty, file = read_multipart(body, 'multipart/form-data; charset=utf-8; boundary="mark"')
    assert (empty.name, empty.data, empty.filename, empty.content_type) == ('a"b', b"", None, "")
    assert (file.name, file.data, file.filename, file.content_type) == ("file", b"\x00\r\n\xff", "x.PNG", "image/png")


@pytest.mark.parametrize(
    ("body", "content_type", "reason"),
    [
        (b"--mark--\r\n", "multipart/form-data", "no boundary"),
        (b"", TYPE, "cut short"),
        (b"--other--", TYPE, "cut short"),
        (b'--mark\r\nContent-Disposition: form-data; name="a"\r\n\r\n1', TYPE, "cut short"),
        (
            b'--mark\r\nContent-Disposition: form-data; name="a"\r\n1\r\n--mark--',
            TYPE,
            "Part 1 of the form has no head",
        ),
        (b"--mark\r\nContent-Disposition: form-data\r\n\r\n1\r\n--mark--", TYPE, "Part 1 of the form has no name"),
        (b"--mark\r\nX: " + b"x" * 5000 + b"\r\n\r\n1\r\n--mark--", TYPE, "4096 bytes"),
    ],
)
def test_a_broken_form_is_refused_by_name(body: bytes, content_type: str, reason: str) -> None:
    with pytest.raises(BadRequest, match=reason) as caught:
        read_multipart(body, content_type)
    assert caught.value.fix


def test_a_form_has_a_bounded_number_of_parts() -> None:
    part = b'--mark\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n'
    assert len(read_multipart(part * MAX_PARTS + b"--mark--", TYPE)) == MAX_PARTS
    with pytest.raises(TooLarge, match="1,001 parts"):
        read_multipart(part * (MAX_PARTS + 1) + b"--mark--", TYPE)


def test_an_urlencoded_form_is_one_row() -> None:
    assert read_urlencoded(b"a=1&b=x+y%C3%A4&a=2&c=") == {"a": "2", "b": "x yä", "c": ""}
    for body in (b"a=%ff", b"\xff", b"&".join(b"a=1" for _ in range(MAX_PARTS + 1))):
        with pytest.raises(BadRequest, match="can't be read"):
            read_urlencoded(body)
