"""Texts to word pieces, as the encoders of the BERT family were trained with them.

Basic splitting (white space, punctuation, ideographs), then the longest pieces of a vocabulary from the left
(M. Schuster and K. Nakajima, "Japanese and Korean Voice Search", 2012; J. Devlin et al., "BERT", 2019). For models that
were made elsewhere; data sets have `tokens.py`, which needs no vocabulary of somebody else's.
"""

from __future__ import annotations

import functools
import itertools
import unicodedata
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from shoal_core.data.spec import TextColumn

FIRST, LAST, UNKNOWN_PIECE = "[CLS]", "[SEP]", "[UNK]"
CONTINUED = "##"
_PADDING, _FIRST_ID = 0, 2
_MAX_WORD = 100
_IDEOGRAPHS = (
    *((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F)),
    *((0x2B920, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F)),
)


def encode_wordpieces(texts: Sequence[str | None], column: TextColumn) -> NDArray[np.int32]:
    """Texts as ids of pieces, with `[CLS]` in front and `[SEP]` behind.

    Args:
        texts: One per sample; a missing one (None) is an empty text.
        column: The column of the spec; its vocabulary has `[CLS]`, `[SEP]` and `[UNK]`.

    Returns:
        int32 [N, length]: 0 is padding, else 2 + the piece's place in the vocabulary; longer texts are cut before
        `[SEP]`.
    """
    places = _places(column.vocabulary)
    encoded = np.full((len(texts), column.length), _PADDING, np.int32)
    for row, text in zip(encoded, texts, strict=True):
        found = itertools.islice(_split(text or "", column.lowercase, places), column.length)
        pieces = [FIRST, *found][: column.length - 1]
        ids = [places[piece] for piece in (*pieces, LAST)]
        row[: len(ids)] = ids
    return encoded


def split_pieces(text: str, vocabulary: tuple[str, ...], lowercase: bool) -> list[str]:
    """The pieces of a text, `[UNK]` for a word that the vocabulary can't make up."""
    return list(_split(text, lowercase, _places(vocabulary)))


def split_words(text: str, lowercase: bool) -> list[str]:
    """Words and single characters of punctuation; with `lowercase` small letters without their accents."""
    cleaned = "".join(map(_spread, text))
    if lowercase:
        plain = unicodedata.normalize("NFD", cleaned)
        cleaned = "".join(char for char in plain if unicodedata.category(char) != "Mn").lower()
    return "".join(f" {char} " if _is_punctuation(char) else char for char in cleaned).split()


def _split(text: str, lowercase: bool, places: dict[str, int]) -> Iterator[str]:
    return (piece for word in split_words(text, lowercase) for piece in _pieces(word, places))


def _pieces(word: str, places: dict[str, int]) -> list[str]:
    if len(word) > _MAX_WORD:
        return [UNKNOWN_PIECE]
    found: list[str] = []
    start = 0
    while start < len(word):
        prefix = CONTINUED if start else ""
        ends = range(len(word), start, -1)
        piece = next((prefix + word[start:end] for end in ends if prefix + word[start:end] in places), None)
        if piece is None:
            return [UNKNOWN_PIECE]
        found.append(piece)
        start += len(piece) - len(prefix)
    return found


@functools.lru_cache(maxsize=4096)
def _spread(char: str) -> str:
    """Ideographs stand alone, white space is a space, and control characters are left out."""
    code, category = ord(char), unicodedata.category(char)
    if char in "\t\n\r" or category == "Zs":
        return " "
    if code in (0, 0xFFFD) or category in ("Cc", "Cf", "Co"):
        return ""
    return f" {char} " if any(first <= code <= last for first, last in _IDEOGRAPHS) else char


@functools.lru_cache(maxsize=4096)
def _is_punctuation(char: str) -> bool:
    """Unicode's punctuation, and all of ASCII that is neither a letter nor a digit."""
    return unicodedata.category(char)[0] == "P" or (char.isascii() and not char.isalnum() and not char.isspace())


@functools.lru_cache(maxsize=8)
def _places(vocabulary: tuple[str, ...]) -> dict[str, int]:
    return {piece: place for place, piece in enumerate(vocabulary, _FIRST_ID)}
