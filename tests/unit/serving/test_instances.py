"""One instance sent in every form that people and programs have: always the same instances."""

from __future__ import annotations

import json

import pytest
import urllib3

from shoal_core.data.spec import ImageInput, PreprocessingSpec, TargetSpec
from shoal_core.errors import BadRequest, TooLarge
from shoal_core.serving.instances import MAX_INSTANCES, read_instances
from tests.unit.training.datasets import profile_spec, sequence_spec, text_spec

TEXTS, TABLE = text_spec(), profile_spec()
IMAGES = PreprocessingSpec(
    kind="image",
    image=ImageInput(height=8, width=8, channels=1),
    target=TargetSpec(task="classification", classes=("a", "b")),
)
ROW = {"x0": "1.5", "kind": "a", "text": "word1, word2"}


def multipart(*fields: tuple[str, object]) -> tuple[bytes, str]:
    return urllib3.encode_multipart_formdata(list(fields), boundary="mark")


@pytest.mark.parametrize(
    "kind", ["image/png", "image/anything", "application/x-image", "application/octet-stream; a=b"]
)
def test_bytes_are_one_image(kind: str) -> None:
    assert read_instances(IMAGES, b"\x89PNG", kind) == [{"bytes": b"\x89PNG"}]
    with pytest.raises(BadRequest, match="doesn't take images"):
        read_instances(TABLE, b"\x89PNG", kind)


def test_several_files_of_a_form_are_images_in_order() -> None:
    body, kind = multipart(("one", ("1.png", b"1")), ("two", ("2.png", b"2")), ("note", "not an image"))
    assert read_instances(IMAGES, body, kind) == [{"bytes": b"1"}, {"bytes": b"2"}]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"hello", "text/plain; charset=utf-8"),
        (b"\xef\xbb\xbfhello", "text/plain"),
        (b'"hello"', "application/json"),
        (b'["hello"]', "application/json"),
        (b'{"instances": ["hello"]}', "application/json"),
        (b'{"text": "hello"}', ""),
        (b"hello\n", "text/csv"),
        (b"text\r\nhello\r\n", "text/csv"),
        (b'{"text": "hello"}\n\n', "application/jsonlines"),
        (b"text=hello", "application/x-www-form-urlencoded"),
        multipart(("file", ("1.txt", b"hello"))),
        multipart(("file", ("1.csv", b"text\nhello\n", "application/octet-stream"))),
        multipart(("file", ("1.json", b'["hello"]', "application/octet-stream"))),
        multipart(("file", ("1.jsonl", b'{"text": "hello"}\n'))),
        multipart(("file", ("1", b'{"instances": ["hello"]}', "application/json; charset=utf-8"))),
        multipart(("text", "hello")),
    ],
)
def test_a_text_in_every_form(body: bytes, kind: str) -> None:
    assert read_instances(TEXTS, body, kind) == [{"text": "hello"}]


def test_texts_may_be_a_list_among_objects() -> None:
    assert read_instances(TEXTS, b'["a", {"text": "b"}, ""]', "application/json") == [
        {"text": "a"},
        {"text": "b"},
        {"text": ""},
    ]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (json.dumps(ROW).encode(), "application/json"),
        (b'x0,kind,text\r\n1.5,a,"word1, word2"\r\n', "text/csv"),
        (b'text,x0,kind\n"word1, word2",1.5,a', "text/csv"),
        (b"x0=1.5&kind=a&text=word1%2C+word2", "application/x-www-form-urlencoded"),
        multipart(*ROW.items()),
        multipart(("rows", ("rows.csv", b'x0,kind,text\n1.5,a,"word1, word2"', "application/octet-stream"))),
        multipart(("rows", ("rows.jsonl", json.dumps(ROW).encode(), ""))),
        multipart(("rows", ("rows.json", json.dumps([ROW]).encode(), "application/json"))),
    ],
)
def test_a_row_in_every_form(body: bytes, kind: str) -> None:
    assert read_instances(TABLE, body, kind) == [ROW]


@pytest.mark.parametrize(
    ("spec", "body", "kind", "reason"),
    [
        (TABLE, b"1.5,a", "text/csv", "Row 1 of the CSV has 2 cells; there are 4 columns"),
        (TABLE, b"x0,kind\n1,a,b", "text/csv", "Row 1 of the CSV has 3 cells; there are 2 columns"),
        (TABLE, b"x0,kind,x0\n1,a,2", "text/csv", "two columns named 'x0'"),
        (TABLE, b"\n", "text/csv", "no instances"),
        (TABLE, b"a\xff", "text/csv", "isn't UTF-8: byte 1"),
        (TABLE, b'"' + b"x" * 200_000, "text/csv", "CSV can't be read"),
        (IMAGES, b"1,2", "text/csv", "doesn't take rows of a table"),
        (IMAGES, b"a=1", "application/x-www-form-urlencoded", "doesn't take rows of a table"),
        (TABLE, b"&", "application/x-www-form-urlencoded", "no fields"),
        (TABLE, b'{"x0": 1}\n{', "application/jsonlines", "Line 2 isn't valid JSON"),
        (TABLE, b'["text"]', "application/json", "Instance 1 is a text, not an object"),
        (TABLE, b"text", "text/plain", "doesn't take one text"),
        (sequence_spec(), b"1,2", "text/csv", "doesn't take rows of a table"),
        (TEXTS, b"", "text/plain", "no body"),
    ],
)
def test_what_isnt_instances_is_told(spec: PreprocessingSpec, body: bytes, kind: str, reason: str) -> None:
    with pytest.raises(BadRequest, match=reason) as caught:
        read_instances(spec, body, kind)
    assert caught.value.fix


@pytest.mark.parametrize("kind", ["text/csv", "application/json"])
def test_there_is_a_most(kind: str) -> None:
    lines = ["x"] * (MAX_INSTANCES + 1)
    body = "\n".join(lines) if kind == "text/csv" else json.dumps(lines)
    with pytest.raises(TooLarge, match="1,001 instances"):
        read_instances(TEXTS, body.encode(), kind)
