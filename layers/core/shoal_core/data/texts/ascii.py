"""Words of ASCII texts, many texts at once: byte by byte in numpy, for the speed of it.

It gives exactly what `tokens` gives for any text: letters and digits make words, every other visible character is a
token, the rest is space.
"""

from __future__ import annotations

import string
from collections.abc import Sequence

import numpy as np

_SPACE, _WORD, _ALONE = 0, 1, 2
# A control character: in a text it would become a space anyway.
_END = "\x1e"


def _kinds() -> bytes:
    kinds = bytearray(256)
    for code in range(33, 127):
        kinds[code] = _WORD if chr(code) in string.ascii_letters + string.digits else _ALONE
    kinds[ord(_END)] = _ALONE
    return bytes(kinds)


_KINDS = _kinds()
_LOWER = bytes(range(256)).lower()


def spread_ascii(texts: Sequence[str], lowercase: bool) -> list[str]:
    """Token texts (tokens joined by one space) of ASCII texts."""
    joined = _END.join(texts)
    if joined.count(_END) >= max(1, len(texts)):
        joined = _END.join(text.replace(_END, " ") for text in texts)
    data = joined.encode("ascii")
    if not data:
        return [""] * len(texts)
    kinds = np.frombuffer(data.translate(_KINDS), np.uint8)
    # Beside every character, the space that may go before it: kept before the first character of a token.
    pairs = np.full((len(kinds), 2), ord(" "), np.uint8)
    pairs[:, 1] = np.frombuffer(data.translate(_LOWER) if lowercase else data, np.uint8)
    kept = np.empty((len(kinds), 2), np.bool_)
    kept[0, 0] = kinds[0] != _SPACE
    words = kinds == _WORD
    np.greater(words[1:], words[:-1], out=kept[1:, 0])
    kept[1:, 0] |= kinds[1:] == _ALONE
    np.not_equal(kinds, _SPACE, out=kept[:, 1])
    spread = pairs[kept].tobytes().decode("ascii")
    return [text.strip(" ") for text in spread.split(_END)]
