"""Word pieces: cutting a text, finding the longest pieces, and ids with their frame."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal_core.data.spec import TextColumn
from shoal_core.data.texts.tokens import encode_texts
from shoal_core.data.texts.wordpiece import split_pieces, split_words

VOCABULARY = (
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "un",
    "##aff",
    "##able",
    "##a",
    "want",
    "##ed",
    "run",
    "##ning",
    ",",
    "!",
)


def column(length: int) -> TextColumn:
    return TextColumn(name="text", length=length, unit="wordpiece", vocabulary=VOCABULARY)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (" \tHeLLo!how  \n Are yoU?  ", ["hello", "!", "how", "are", "you", "?"]),
        ("H\u00e9llo", ["hello"]),
        ("\u535a\u63a8zz", ["\u535a", "\u63a8", "zz"]),
        ("a\u200bb\x00c\ufffdd", ["abcd"]),
        ("it's $5\u2014ok", ["it", "'", "s", "$", "5", "\u2014", "ok"]),
        ("", []),
    ],
)
def test_words_are_cut_and_made_plain(text, words):
    assert split_words(text, lowercase=True) == words


def test_case_and_accents_stay_when_they_count():
    assert split_words("H\u00e9LLo!", lowercase=False) == ["H\u00e9LLo", "!"]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("unwanted running", ["[UNK]", "run", "##ning"]),
        ("unaffable", ["un", "##aff", "##able"]),
        ("unaffablex", ["[UNK]"]),
        ("want, wanted!", ["want", ",", "want", "##ed", "!"]),
        ("un" * 51, ["[UNK]"]),
    ],
)
def test_the_longest_pieces_are_taken_from_the_left(text, pieces):
    assert split_pieces(text, VOCABULARY, lowercase=True) == pieces


def test_ids_have_a_frame_and_are_cut_before_its_end():
    first, last = 2 + VOCABULARY.index("[CLS]"), 2 + VOCABULARY.index("[SEP]")
    want, ed = 2 + VOCABULARY.index("want"), 2 + VOCABULARY.index("##ed")
    encoded = encode_texts(["wanted", None, "want want want want"], column(5))
    expected = [[first, want, ed, last, 0], [first, last, 0, 0, 0], [first, want, want, want, last]]
    np.testing.assert_array_equal(encoded, expected)
    assert encoded.dtype == np.int32


@given(st.text(max_size=60))
def test_any_text_is_encoded(text):
    (row,) = encode_texts([text], column(8))
    used = int((row > 0).sum())
    assert 2 <= used <= 8 and (row[used:] == 0).all() and row.max() < 2 + len(VOCABULARY)
