"""Token ids against a plain reference: Python's own regular expressions and dictionaries, one text at a time."""

import unicodedata
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal_core.data.cleaning_config import TextConfig
from shoal_core.data.spec import TextColumn
from shoal_core.data.texts.packed import TokenTable, pack_tokens
from shoal_core.data.texts.tokens import encode_texts, encode_token_texts, split_tokens, token_text, token_texts

WORDS = TextConfig()
CHARACTERS = TextConfig(unit="character")
ODD = (
    "aB9 zé\t\n\r\x00\x1c\x1e\x7f.,_'-!ßſİıΣςﬁＡ²Ⅷ¼\u0301\u0345\u0344\u093f"
    "\u200b\u200d\u00ad\ufe0f\ufeff☺👩🏽漢字かなไทยกั한국\U000e0100"
)
odd_texts = st.one_of(st.text(alphabet=ODD), st.text(), st.text(alphabet=st.characters(codec="ascii")))


def words(text: str, config: TextConfig = WORDS) -> list[str]:
    return split_tokens(token_text(text, config), "word")


def characters(text: str) -> list[str]:
    return split_tokens(token_text(text, CHARACTERS), "character")


def plain_words(text: str, form: str, lowercase: bool) -> list[str]:
    """One character after the other, without any of the module's tricks."""
    text = unicodedata.normalize(form, text)
    if lowercase:
        text = unicodedata.normalize(form, text.casefold())
    tokens: list[str] = []
    open_word = False
    for char in text:
        category = unicodedata.category(char)
        if char == "\u200b" or category[0] == "Z" or category == "Cc":
            open_word = False
        elif category == "Cf" or "VARIATION SELECTOR" in unicodedata.name(char, ""):
            continue
        elif category[0] == "N" or (category[0] in "LM" and not spaceless(char)):
            if open_word:
                tokens[-1] += char
            else:
                tokens.append(char)
            open_word = True
        else:
            tokens.append(char)
            open_word = False
    return tokens


def spaceless(char: str) -> bool:
    name = unicodedata.name(char, "")
    return name.startswith(("CJK ", "HIRAGANA", "KATAKANA", "THAI", "HALFWIDTH KATAKANA"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, World! don't", ["hello", ",", "world", "!", "don", "'", "t"]),
        ("ﬁne ＷＩＤＥ Straße", ["fine", "wide", "strasse"]),
        ("cafe\u0301 e\u0301te\u0301", ["café", "été"]),
        ("我爱北京abc123。", ["我", "爱", "北", "京", "abc123", "。"]),
        ("ไทยabc", ["ไ", "ท", "ย", "abc"]),
        ("नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),
        ("한국어 문장", ["한국어", "문장"]),
        ("👩\u200d👧 ☺\ufe0f!", ["👩", "👧", "☺", "!"]),
        ("soft\u00adhyphen zero\u200bwidth nul\x00byte", ["softhyphen", "zero", "width", "nul", "byte"]),
        ("snake_case 1,000.5", ["snake", "_", "case", "1", ",", "000", ".", "5"]),
        ("\ud800x", ["?", "x"]),
        (" \t\n ", []),
    ],
)
def test_words_of_many_languages(text, expected):
    assert words(text) == expected


def test_characters_keep_their_marks_and_white_space_is_one():
    assert characters("A  b\n") == ["a", " ", "b"]
    assert characters("हि\u200dन्दी x") == ["हि", "न्", "दी", " ", "x"]


def test_case_and_compatibility_are_kept_when_asked():
    config = TextConfig(lowercase=False, normalization="NFC")
    assert words("ﬁ Aé", config) == ["ﬁ", "Aé"]


@settings(max_examples=300)
@given(
    st.text(alphabet=[char for char in ODD if unicodedata.category(char) != "Cs"]),
    st.booleans(),
    st.sampled_from(["NFC", "NFKC"]),
)
def test_words_are_those_of_a_plain_loop(text, lowercase, form):
    config = TextConfig(lowercase=lowercase, normalization=form)
    assert words(text, config) == plain_words(text, form, lowercase)


@given(st.lists(st.one_of(st.none(), odd_texts)), st.sampled_from([WORDS, CHARACTERS]))
def test_many_texts_at_once_are_as_one_by_one(texts, config):
    assert token_texts(texts, config) == [None if text is None else token_text(text, config) for text in texts]


@given(odd_texts)
def test_joining_the_tokens_gives_the_token_text(text):
    assert " ".join(words(text)) == token_text(text, WORDS)
    assert "".join(characters(text)) == token_text(text, CHARACTERS)


def reference_ids(text: str | None, column: TextColumn) -> list[int]:
    config = TextConfig(unit=column.unit, lowercase=column.lowercase, normalization=column.normalization)
    tokens = split_tokens(token_text(text or "", config), column.unit)
    if not column.buckets:
        ids = [column.vocabulary.index(token) + 2 if token in column.vocabulary else 1 for token in tokens]
    else:
        ids = [
            2 + zlib.crc32(" ".join(tokens[end + 1 - size : end + 1]).encode()) % column.buckets
            for end in range(len(tokens))
            for size in range(1, min(column.ngrams, end + 1) + 1)
        ]
    return (ids + [0] * column.length)[: column.length]


LONG = "supercalifragilisticexpialidocious"
VOCABULARY = ("a", "b9", "ab", ".", "zé", "漢", "exactly8", "exactly16bytesxx", LONG, "हि", "☺", LONG + "s")
vocabulary_texts = st.lists(st.one_of(st.sampled_from(VOCABULARY), odd_texts)).map(" ".join)


@settings(max_examples=200)
@given(
    st.lists(st.one_of(st.none(), vocabulary_texts)),
    st.integers(1, 12),
    st.sampled_from(["word", "character"]),
    st.sampled_from([(0, 1), (7, 1), (1000, 2), (1000, 3)]),
)
def test_ids_are_those_of_a_plain_reference(texts, length, unit, hashing):
    buckets, ngrams = hashing
    vocabulary = () if buckets else (*VOCABULARY, *([" "] if unit == "character" else []))
    column = TextColumn(name="t", length=length, unit=unit, vocabulary=vocabulary, buckets=buckets, ngrams=ngrams)
    encoded = encode_texts(texts, column)
    assert encoded.dtype == np.int32 and encoded.shape == (len(texts), length)
    assert encoded.tolist() == [reference_ids(text, column) for text in texts]
    assert (encode_token_texts(token_texts(texts, column), column) == encoded).all()
    for index, text in enumerate(texts):
        assert (encode_texts([text], column) == encoded[index : index + 1]).all()


def test_missing_and_empty_texts_are_padding():
    column = TextColumn(name="t", length=3, vocabulary=("a",))
    assert encode_texts([None, "", "a x"], column).tolist() == [[0, 0, 0], [0, 0, 0], [2, 1, 0]]
    assert encode_texts([], column).shape == (0, 3)


@settings(max_examples=60)
@given(st.sets(st.text(alphabet="abcdefghijklmnopé漢", min_size=1, max_size=30), max_size=300))
def test_a_table_finds_every_token_and_no_other(tokens):
    ordered = sorted(tokens)
    table = TokenTable(ordered[::2])
    found = table.find(pack_tokens([" ".join(ordered)]))
    assert found.tolist() == [index // 2 if index % 2 == 0 else -1 for index in range(len(ordered))]


def test_a_table_of_many_tokens_and_collisions():
    tokens = [f"w{number}" for number in range(50_000)]
    table = TokenTable(tokens)
    assert table.find(pack_tokens([" ".join(tokens)])).tolist() == list(range(50_000))
    assert (table.find(pack_tokens([" ".join(f"v{number}" for number in range(50_000))])) == -1).all()


def test_hashes_depend_on_the_bytes_alone():
    tokens = ["a", "b", LONG, LONG + "x", "exactly8", "exactly8x", "exactly16bytesxx"]
    alone = [pack_tokens([token]).hashes()[0] for token in tokens]
    together = pack_tokens(["x y", " ".join(tokens)]).hashes()[2:]
    assert together.tolist() == [int(value) for value in alone]
    assert len(set(together.tolist())) == len(tokens)


def test_endless_combining_marks_take_no_endless_time():
    # Alternating combining classes are the worst case of Unicode's canonical ordering: quadratic without the bound.
    text = "a" + "\u0301\u0316" * 500_000
    (token,) = words(text)
    assert len(token) <= 31
