"""Words of many texts at once: byte by byte in numpy, for the speed of it.

Of ASCII, letters and digits make words, every other visible character is a token, and the rest is space. Characters
beyond ASCII make words: `tokens` puts spaces around those that don't, or in their place, beforehand.
"""

from __future__ import annotations

import string
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shoal_core.data.texts.packed import PackedTokens, packed_tokens

_SPACE, _WORD, _ALONE = 0, 1, 2
# A control character: in a text it would become a space anyway.
_END = "\x1e"


def _kinds(end: int) -> bytes:
    kinds = bytearray(256)
    for code in range(33, 127):
        kinds[code] = _WORD if chr(code) in string.ascii_letters + string.digits else _ALONE
    kinds[128:] = bytes([_WORD]) * 128
    kinds[ord(_END)] = end
    return bytes(kinds)


# Where texts are spread the mark between them has to stay, where tokens are found it is space.
_SPREAD_KINDS = _kinds(_ALONE)
_KINDS = _kinds(_SPACE)
_LOWER = bytes(range(256)).lower()


def spread_words(texts: Sequence[str], lowercase: bool) -> list[str]:
    """Token texts (tokens joined by one space). Only ASCII becomes lower case here."""
    data = _joined(texts)
    if not data:
        return [""] * len(texts)
    kinds = np.frombuffer(data.translate(_SPREAD_KINDS), np.uint8)
    # Beside every character, the space that may go before it: kept before the first character of a token.
    pairs = np.full((len(kinds), 2), ord(" "), np.uint8)
    pairs[:, 1] = np.frombuffer(data.translate(_LOWER) if lowercase else data, np.uint8)
    kept = np.empty((len(kinds), 2), np.bool_)
    kept[:, 0] = _beginnings(kinds)
    np.not_equal(kinds, _SPACE, out=kept[:, 1])
    spread = pairs[kept].tobytes().decode()
    return [text.strip(" ") for text in spread.split(_END)]


def pack_words(texts: Sequence[str], lowercase: bool) -> PackedTokens:
    """The tokens of the same texts, without making their token texts: see `packed.pack_tokens`."""
    data = _joined(texts)
    kinds = np.frombuffer(data.translate(_KINDS), np.uint8)
    starts = np.flatnonzero(_beginnings(kinds))
    ends = np.flatnonzero(_beginnings(kinds[::-1])[::-1]) + 1
    breaks = np.flatnonzero(np.frombuffer(data, np.uint8) == ord(_END))
    return packed_tokens(data.translate(_LOWER) if lowercase else data, starts, ends - starts, breaks, len(texts))


def _joined(texts: Sequence[str]) -> bytes:
    """The texts with a mark between them, which none of them holds."""
    joined = _END.join(texts)
    if joined.count(_END) >= max(1, len(texts)):
        joined = _END.join(text.replace(_END, " ") for text in texts)
    return joined.encode()


def _beginnings(kinds: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Whether a token begins at each character (or ends there, of the reversed kinds)."""
    words = kinds == _WORD
    found = np.equal(kinds, _ALONE)
    found[:1] |= words[:1]
    found[1:] |= words[1:] & ~words[:-1]
    return np.asarray(found, np.bool_)
