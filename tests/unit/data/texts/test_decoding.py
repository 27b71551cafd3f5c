import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal_core.data.texts.decoding import MAX_TEXT_BYTES, decode_text, judge_text_name, judge_text_size
from shoal_core.errors import BadText

TEXT = "Ein schöner Film – très bien! Русский 漢字\nzweite Zeile\t☺"


@pytest.mark.parametrize(
    "data",
    [
        TEXT.encode(),
        codecs.BOM_UTF8 + TEXT.encode(),
        codecs.BOM_UTF16_LE + TEXT.encode("utf-16-le"),
        codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
        codecs.BOM_UTF32_LE + TEXT.encode("utf-32-le"),
        codecs.BOM_UTF32_BE + TEXT.encode("utf-32-be"),
        TEXT.encode("utf-16-le"),
        TEXT.encode("utf-16-be"),
    ],
)
def test_every_encoding_gives_the_same_text(data):
    assert decode_text(data) == TEXT


def test_what_is_not_unicode_is_windows_1252():
    assert decode_text("Café “crème” – 5 €".encode("cp1252")) == "Café “crème” – 5 €"


@pytest.mark.parametrize(
    "data",
    [
        b"\x00" * 50,
        b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR",
        bytes(range(1, 32)) * 10,
        b"some text\x00" * 10,
        codecs.BOM_UTF16_LE + b"\x00\xd8\x00",
        codecs.BOM_UTF8 + b"caf\xe9",
        b"\x81\x8d\x8f\x90\x9d" * 40,
    ],
)
def test_what_is_not_text_is_refused_with_its_name_and_a_fix(data):
    with pytest.raises(BadText, match=r"'a/b.txt'.*") as found:
        decode_text(data, "'a/b.txt'")
    assert found.value.fix


def test_too_large():
    with pytest.raises(BadText, match="more than"):
        decode_text(b"a" * (MAX_TEXT_BYTES + 1))
    assert judge_text_size(MAX_TEXT_BYTES) == ("", "", "")
    assert judge_text_size(MAX_TEXT_BYTES + 1)[0] == "too_large"


def test_names():
    assert judge_text_name("a/b.TXT") == ("", "", "")
    assert judge_text_name("a/b.pdf")[0] == "not_a_text"


@given(st.binary(max_size=300))
def test_any_bytes_are_a_text_or_refused(data):
    try:
        decode_text(data).encode()
    except BadText as error:
        assert error.reason and error.fix


@given(st.text(alphabet=st.characters(codec="utf-8", categories=["L", "N", "P", "Zs", "M", "S"])))
def test_utf8_is_read_as_it_is(text):
    assert decode_text(text.encode()) == text.removeprefix("\ufeff")
