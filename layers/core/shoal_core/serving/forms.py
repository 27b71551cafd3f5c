"""Form posts: the parts of `multipart/form-data`, and the fields of an urlencoded form.

Source: RFC 7578, RFC 2046 5.1. Written out here because the parsers of Python's library read texts or whole messages,
and binary files must come through byte by byte.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl

from shoal_core.errors import BadRequest, TooLarge

MAX_PARTS = 1000
MAX_HEAD_BYTES = 4096
_BOUNDARY = re.compile(r"""boundary=(?:"([^"\r\n]{1,70})"|([^\s;"]{1,70}))""", re.IGNORECASE)
_PARAMETER = re.compile(r'\b(name|filename)="((?:[^"\\]|\\.)*)"', re.IGNORECASE)
_FIX = "Let your client make the form: `curl -F image=@3.png`, or `requests.post(url, files=...)`."


@dataclass(frozen=True)
class Part:
    """One part of a form: `filename` is None for a plain field; `content_type` is lower case, empty when not given."""

    name: str
    data: bytes
    filename: str | None = None
    content_type: str = ""


def read_multipart(body: bytes, content_type: str) -> list[Part]:
    """The parts of a form, in order.

    Raises:
        BadRequest: No boundary, or a body that isn't cut by it.
        TooLarge: More than `MAX_PARTS` parts.
    """
    found = _BOUNDARY.search(content_type)
    if found is None:
        raise BadRequest("The form's Content-Type has no boundary.", _FIX)
    mark = b"--" + (found[1] or found[2]).encode("latin-1", "replace")
    # The line break before a boundary belongs to it; the first boundary may start the body.
    pieces = (b"\r\n" + body).split(b"\r\n" + mark)
    if len(pieces) < 2 or not pieces[-1].startswith(b"--"):
        raise BadRequest("The form is cut short, or isn't cut by the boundary of its Content-Type.", _FIX)
    if len(pieces) - 2 > MAX_PARTS:
        raise TooLarge(f"The form has {len(pieces) - 2:,} parts; {MAX_PARTS:,} are allowed.", "Send several requests.")
    return [_part(piece, number) for number, piece in enumerate(pieces[1:-1], 1)]


def read_urlencoded(body: bytes) -> dict[str, str]:
    """The fields of an urlencoded form; of a repeated one the last. Raises `BadRequest`."""
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MAX_PARTS, errors="strict"))
    except ValueError as error:
        raise BadRequest(
            f"The form can't be read: {error}.", "Send fields as name=value&name=value, in UTF-8."
        ) from error


def _part(piece: bytes, number: int) -> Part:
    head, gap, data = piece.lstrip(b" \t").partition(b"\r\n\r\n")
    if not gap or len(head) > MAX_HEAD_BYTES:
        raise BadRequest(f"Part {number} of the form has no head, or a head of more than {MAX_HEAD_BYTES} bytes.", _FIX)
    headers = {}
    for line in head.decode("utf-8", "replace").split("\r\n"):
        key, _, value = line.partition(":")
        headers[key.strip().lower()] = value.strip()
    names = {
        key.lower(): re.sub(r"\\(.)", r"\1", value)
        for key, value in _PARAMETER.findall(headers.get("content-disposition", ""))
    }
    if "name" not in names:
        raise BadRequest(f"Part {number} of the form has no name.", _FIX)
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    return Part(names["name"], data, names.get("filename"), kind)
