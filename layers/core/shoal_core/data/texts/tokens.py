"""Texts to token ids, in any language; write_shard and predict both use it.

1. A text is normalised (NFKC or NFC, and case folding unless it is turned off). Runs of more than 30 combining marks
   are cut to 30, as in Unicode's stream-safe format (UAX 15), since normalising longer ones takes quadratic time.
2. Words: runs of letters, marks and digits. Every character of a script that is written without spaces (Chinese,
   Japanese, Thai, Lao, Khmer, Burmese, Tibetan and their relatives) is a token of its own, and so are punctuation,
   symbols and emoji. Characters: one token per character with the marks that follow it; white space is one token.
   Format characters (soft hyphen, joiners, variation selectors) are left out; control characters count as spaces.
3. Ids: 0 is padding, 1 an unknown token, then the vocabulary in order, or 2 + CRC-32 of the UTF-8 modulo `buckets`.

A text's tokens joined by a space (words), or its cleaned characters, are its *token text*: what the model sees before
any vocabulary, so a growing vocabulary changes no hash of it. Classes of characters are those of the Python that runs:
training and serving must use one version of Python.
"""

from __future__ import annotations

import functools
import itertools
import re
import unicodedata
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from shoal_core.data.texts.packed import PackedTokens, TokenTable, batches, pack_tokens
from shoal_core.data.texts.spreading import pack_words, spread_words
from shoal_core.data.texts.wordpiece import encode_wordpieces

if TYPE_CHECKING:
    from shoal_core.data.cleaning_config import TextConfig
    from shoal_core.data.config_types import TokenUnit
    from shoal_core.data.spec import TextColumn

PADDING = 0
UNKNOWN = 1
FIRST_TOKEN = 2

_MAX_MARKS = 30
# More different characters than this are replaced in one pass over the text instead of one pass each.
_MANY = 48
_MAX_CACHED_IDS = 200_000
_MAX_CACHED_VOCABULARIES = 64
# Blocks of scripts that are written without spaces between words.
_SPACELESS = (
    (0x0E00, 0x109F),  # Thai, Lao, Tibetan, Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x1950, 0x19FF),  # Tai Le, New Tai Lue, Khmer symbols
    (0x1A20, 0x1AAF),  # Tai Tham
    (0x2E80, 0x2FDF),  # CJK radicals
    (0x3005, 0x312F),  # CJK marks, Hiragana, Katakana, Bopomofo
    (0x31A0, 0x31FF),  # Bopomofo and Katakana extensions
    (0x3400, 0x4DBF),  # CJK extension A
    (0x4E00, 0x9FFF),  # CJK ideographs
    (0xA9E0, 0xA9FF),  # Myanmar extension B
    (0xAA60, 0xAADF),  # Myanmar extension A, Tai Viet
    (0xF900, 0xFAFF),  # CJK compatibility ideographs
    (0x1AFF0, 0x1B16F),  # Kana supplement and extensions
    (0x20000, 0x3FFFF),  # CJK extensions B and later
)

_Kind = Literal["word", "alone", "space", "nothing"]


class _Kinds(dict[str, _Kind]):
    """Character -> what it is, filled as characters are met (at most all of Unicode)."""

    def __missing__(self, char: str) -> _Kind:
        kind = self[char] = _kind(char)
        return kind


class _HashedIds(dict[str, int]):
    """Token -> id by hash; bounded, since texts bring ever new tokens."""

    def __init__(self, buckets: int) -> None:
        super().__init__()
        self._buckets = buckets

    def __missing__(self, token: str) -> int:
        if len(self) >= _MAX_CACHED_IDS:
            self.clear()
        found = self[token] = hashed_id(token, self._buckets)
        return found


_KINDS = _Kinds()
_TABLES: dict[int, tuple[tuple[str, ...], TokenTable]] = {}


def hashed_id(token: str, buckets: int) -> int:
    """The id of a token (or of tokens joined by a space) among `buckets` hashed ones."""
    return FIRST_TOKEN + zlib.crc32(token.encode()) % buckets


def token_text(text: str, rules: TextColumn | TextConfig) -> str:
    """The token text: tokens joined by one space (words), or the cleaned characters."""
    return _token_texts([text], rules)[0]


def token_texts(texts: Sequence[str | None], rules: TextColumn | TextConfig) -> list[str | None]:
    """`token_text` of many texts; None stays None, and so do texts of word pieces, which have rules of their own."""
    if rules.unit == "wordpiece":
        return list(texts)
    found: list[str | None] = list(_token_texts([text or "" for text in texts], rules))
    for index, text in enumerate(texts):
        if text is None:
            found[index] = None
    return found


def _token_texts(texts: Sequence[str], rules: TextColumn | TextConfig) -> list[str]:
    if rules.unit != "word":
        return [" ".join(_replace(_normalize(text, rules), spread=False).split()) for text in texts]
    found: list[str] = []
    for start, stop in batches(texts):
        found += spread_words(_prepared(texts[start:stop], rules), rules.lowercase)
    return found


def pack_texts(texts: Sequence[str], rules: TextColumn | TextConfig) -> PackedTokens:
    """The words of texts: those of their token texts, which aren't made."""
    return pack_words(_prepared(texts, rules), rules.lowercase)


def _prepared(texts: Sequence[str], rules: TextColumn | TextConfig) -> list[str]:
    """Texts in which only ASCII is left to be told apart."""
    return [text if text.isascii() else _replace(_normalize(text, rules), spread=True) for text in texts]


def split_tokens(found: str, unit: TokenUnit | Literal["wordpiece"], limit: int | None = None) -> list[str]:
    """The tokens of a token text, only the first `limit` of them when it is given."""
    if unit == "word":
        if limit is None:
            return found.split()
        tokens = found.split(None, limit)
        return tokens[:limit]
    if limit is not None and not found.isascii():
        # A character carries a bounded number of marks, so this holds the first `limit` tokens whole.
        found = found[: limit * (2 * _MAX_MARKS + 2)]
    return _characters(found)[:limit]


def encode_texts(texts: Sequence[str | None], column: TextColumn) -> NDArray[np.int32]:
    """Texts as token ids: int32 [N, length].

    Args:
        texts: One text per sample; a missing text (None) is all padding.
        column: The column of the spec: rules, length, and the vocabulary or the number of buckets.

    Returns:
        int32 [N, length]: 0 is padding, 1 an unknown token; longer texts are cut at the end, shorter ones padded there.
    """
    return encode_token_texts(token_texts(texts, column), column)


def encode_token_texts(found: Sequence[str | None], column: TextColumn) -> NDArray[np.int32]:
    """`encode_texts` of texts that already are token texts, for who needs those as well (to hash them)."""
    if column.unit == "wordpiece":
        return encode_wordpieces(found, column)
    texts = [text or "" for text in found]
    if column.buckets or column.unit == "character":
        return _encode_one_by_one(texts, column)
    encoded = np.zeros((len(texts), column.length), np.int32)
    table = _table(column.vocabulary)
    for start, stop in batches(texts):
        tokens = pack_tokens(texts[start:stop])
        tokens = tokens.take(tokens.rank < column.length)
        numbers = table.find(tokens)
        encoded[start + tokens.text, tokens.rank] = np.where(numbers < 0, UNKNOWN, numbers + FIRST_TOKEN)
    return encoded


def _encode_one_by_one(texts: list[str], column: TextColumn) -> NDArray[np.int32]:
    length = column.length
    ids = _HashedIds(column.buckets) if column.buckets else _codes(column.vocabulary)
    encoded = np.zeros((len(texts), length), np.int32)
    for index, text in enumerate(texts):
        # Of a token comes at least one id, so no more tokens than ids are needed.
        tokens = split_tokens(text, column.unit, length)
        if column.buckets:
            found = _hashed(tokens, column, ids)[:length]
        else:
            found = list(map(ids.get, tokens, itertools.repeat(UNKNOWN)))
        encoded[index, : len(found)] = found
    return encoded


def count_ids(tokens: int, ngrams: int) -> int:
    """How many ids that many tokens become with n-grams of up to `ngrams` tokens."""
    return sum(max(0, tokens - extra) for extra in range(ngrams))


def _normalize(text: str, rules: TextColumn | TextConfig) -> str:
    if text.isascii():
        return text.lower() if rules.lowercase else text
    text = _bounded_marks(text.encode("utf-8", "replace").decode())  # JSON may hold lone surrogates
    text = unicodedata.normalize(rules.normalization, text)
    # Folding may take a text out of its normal form (Unicode, D145).
    return unicodedata.normalize(rules.normalization, text.casefold()) if rules.lowercase else text


def _bounded_marks(text: str) -> str:
    chars = set(text)
    if not any(map(unicodedata.combining, chars)):
        return text
    escaped = re.escape("".join(sorted(char for char in chars if unicodedata.combining(char))))
    return re.sub(f"([{escaped}]{{{_MAX_MARKS}}})[{escaped}]+", r"\1", text)


def _replace(text: str, *, spread: bool) -> str:
    """The text without format characters, with spaces for controls, and (`spread`) around tokens of one character.

    With `spread`, ASCII stays as it is: see `spreading`.
    """
    changes: dict[str, str] = {}
    for char in set(text):
        if char == " " or (spread and char < "\x80"):
            continue
        kind = _KINDS[char]
        if kind == "alone":
            if spread:
                changes[char] = f" {char} "
        elif kind == "space":
            changes[char] = " "
        elif kind == "nothing":
            changes[char] = ""
    # No replacement brings in a character that another one replaces, so their order doesn't matter.
    if len(changes) > _MANY:
        return text.translate({ord(char): new for char, new in changes.items()})
    for char, new in changes.items():
        text = text.replace(char, new)
    return text


def _kind(char: str) -> _Kind:
    category = unicodedata.category(char)
    code = ord(char)
    if category[0] == "Z" or category == "Cc" or code == 0x200B:  # zero width space: where a word may end
        return "space"
    if category == "Cf" or 0xFE00 <= code <= 0xFE0F or 0xE0100 <= code <= 0xE01EF:  # variation selectors
        return "nothing"
    if category[0] == "N":
        return "word"
    if category[0] in "LM":
        return "alone" if any(first <= code <= last for first, last in _SPACELESS) else "word"
    return "alone"


def _characters(text: str) -> list[str]:
    """Characters with the marks that follow each."""
    marks = "".join(sorted(char for char in set(text) if unicodedata.category(char)[0] == "M"))
    if text.isascii() or not marks:
        return list(text)
    escaped = re.escape(marks)
    # A long run of marks is cut up, so that no token is longer than what `split_tokens` looks at.
    return re.findall(f"[^{escaped}][{escaped}]{{0,{2 * _MAX_MARKS}}}|[{escaped}]{{1,{2 * _MAX_MARKS}}}", text)


def _table(vocabulary: tuple[str, ...]) -> TokenTable:
    """Kept by the identity of the vocabulary: hashing 200,000 tokens at every request would take a while."""
    kept = _TABLES.get(id(vocabulary))
    if kept is None or kept[0] is not vocabulary:
        if len(_TABLES) >= _MAX_CACHED_VOCABULARIES:
            _TABLES.clear()
        kept = _TABLES[id(vocabulary)] = (vocabulary, TokenTable(vocabulary))
    return kept[1]


@functools.lru_cache(maxsize=_MAX_CACHED_VOCABULARIES)
def _codes(vocabulary: tuple[str, ...]) -> dict[str, int]:
    return {token: code for code, token in enumerate(vocabulary, FIRST_TOKEN)}


def _hashed(tokens: list[str], column: TextColumn, ids: Mapping[str, int]) -> list[int]:
    """Ids by hash: every token, followed by the n-grams that end with it, shortest first."""
    if column.ngrams == 1:
        return [ids[token] for token in tokens]
    return list(_grams(tokens, column, ids))


def _grams(tokens: list[str], column: TextColumn, ids: Mapping[str, int]) -> Iterator[int]:
    for index, token in enumerate(tokens):
        yield ids[token]
        for size in range(2, min(column.ngrams, index + 1) + 1):
            yield hashed_id(" ".join(tokens[index + 1 - size : index + 1]), column.buckets)
