"""Tokens of token texts as whole numbers, so that looking them up and hashing them takes numpy alone.

A token of up to 16 UTF-8 bytes is exactly two words of 64 bits (its bytes, padded with zeros, which no token holds);
longer ones are rare and take Python's way. Nothing is approximate: a hash only says where to look, then the words are
compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]

_WORD = 8
PACKED_BYTES = 2 * _WORD
_LOAD = 4
"""Slots of the table per token: most are found at the first look."""
_BATCH_CHARACTERS = 2**18
# Odd constants of splitmix64 (Steele, Lea and Flood, 2014).
_MIX_A = np.uint64(0x9E3779B97F4A7C15)
_MIX_B = np.uint64(0xBF58476D1CE4E5B9)
_MIX_C = np.uint64(0x94D049BB133111EB)
_MASKS = np.array([2 ** (8 * size) - 1 for size in range(_WORD + 1)], np.uint64)


@dataclass(frozen=True)
class PackedTokens:
    """The tokens of a batch of token texts.

    `counts` int64 [N] are tokens per text; per token: `starts` and `sizes` (bytes in `data`), `text` (which of the N)
    and `rank` (place in its text), all int64.
    """

    data: bytes
    counts: NDArray[np.int64]
    starts: NDArray[np.int64]
    sizes: NDArray[np.int64]
    text: NDArray[np.int64]
    rank: NDArray[np.int64]

    def take(self, chosen: NDArray[np.bool_]) -> PackedTokens:
        """Some of the tokens; `counts` stay those of whole texts."""
        return PackedTokens(
            self.data, self.counts, self.starts[chosen], self.sizes[chosen], self.text[chosen], self.rank[chosen]
        )

    def word(self, index: int) -> Words:
        """Bytes 8 * index onwards of every token, little-endian, zeros where it has ended."""
        space = np.frombuffer(self.data, np.uint8)
        # Every offset is one 64-bit word: the data ends in padding, so that none leads out of it.
        words = np.ndarray(len(self.data) - _WORD + 1, "<u8", space, strides=(1,))
        rest = np.clip(self.sizes - _WORD * index, 0, _WORD)
        begin = np.minimum(self.starts + _WORD * index, len(words) - 1)
        return np.asarray(words[begin] & _MASKS[rest], np.uint64)

    def hashes(self) -> Words:
        """One 64-bit hash per token, by its bytes alone."""
        found = mix(self.word(0) + self.sizes.astype(np.uint64) * _MIX_A)
        longest = int(self.sizes.max(initial=0))
        index = 1
        while _WORD * index < longest:
            longer = self.sizes > _WORD * index
            part = self.take(longer)
            found[longer] = mix(found[longer] + part.word(index) * _MIX_B + _MIX_C)
            index += 1
        return found

    def bytes_at(self, index: int) -> bytes:
        """The UTF-8 bytes of one token."""
        start = int(self.starts[index])
        return self.data[start : start + int(self.sizes[index])]

    def texts(self) -> list[str]:
        """The tokens themselves."""
        if not self.starts.size:
            return []
        places = map(slice, self.starts.tolist(), (self.starts + self.sizes).tolist())
        # No token holds a line break, and decoding them together is faster.
        return b"\n".join(map(self.data.__getitem__, places)).decode().split("\n")


def mix(values: Words) -> Words:
    """A permutation of 64-bit numbers that spreads every bit (the finalizer of splitmix64)."""
    values = (values ^ (values >> np.uint64(30))) * _MIX_B
    values = (values ^ (values >> np.uint64(27))) * _MIX_C
    return np.asarray(values ^ (values >> np.uint64(31)), np.uint64)


def pack_tokens(texts: Sequence[str]) -> PackedTokens:
    """The tokens of word token texts (tokens parted by one space each; neither holds a line break)."""
    joined = "\n".join(texts).encode()
    space = np.frombuffer(joined, np.uint8)
    breaks = np.flatnonzero(space <= ord(" "))
    starts = np.concatenate((np.zeros(1, np.int64), breaks + 1))
    sizes = np.concatenate((breaks, np.array([len(joined)]))) - starts
    real = sizes > 0
    return packed_tokens(joined, starts[real], sizes[real], breaks[space[breaks] == ord("\n")], len(texts))


def packed_tokens(
    data: bytes, starts: NDArray[np.int64], sizes: NDArray[np.int64], breaks: NDArray[np.int64], texts: int
) -> PackedTokens:
    """Tokens that were found in the bytes of several texts.

    Args:
        data: The texts, with one byte between every two of them.
        starts: Where each token begins, rising.
        sizes: Their bytes.
        breaks: Where the bytes between the texts are.
        texts: How many texts there are.
    """
    if not texts:
        nothing = np.zeros(0, np.int64)
        return PackedTokens(bytes(PACKED_BYTES), nothing, nothing, nothing, nothing, nothing)
    first = np.concatenate((np.zeros(1, np.int64), np.searchsorted(starts, breaks)))
    counts = np.diff(np.append(first, len(starts)))
    rank = np.arange(len(starts)) - np.repeat(first, counts)
    return PackedTokens(data + bytes(PACKED_BYTES), counts, starts, sizes, np.repeat(np.arange(texts), counts), rank)


def batches(texts: Sequence[str], chosen: Sequence[int] | None = None) -> Iterator[tuple[int, int]]:
    """Ranges of texts (or of the chosen ones) that are small enough for the processor's cache."""
    indices = range(len(texts)) if chosen is None else chosen
    start = size = 0
    for place, index in enumerate(indices):
        size += len(texts[index])
        if size >= _BATCH_CHARACTERS:
            yield start, place + 1
            start, size = place + 1, 0
    if start < len(indices):
        yield start, len(indices)


class TokenTable:
    """Token -> number, for many tokens at once.

    Args:
        tokens: Different words; the number of each is its index.

    Raises:
        ValueError: A token that no text is split into: empty, or with white space in it.
    """

    def __init__(self, tokens: Sequence[str]) -> None:
        packed = pack_tokens(tokens)
        if not np.array_equal(packed.text, np.arange(len(tokens))):
            raise ValueError("a token is empty or holds white space")
        short = packed.sizes <= PACKED_BYTES
        self._long = {packed.bytes_at(index): index for index in np.flatnonzero(~short).tolist()}
        # The last entry stands for "not found" (-1): no token is all zeros.
        nothing = np.zeros(1, np.uint64)
        self._first = np.concatenate((packed.word(0), nothing))
        self._second = np.concatenate((packed.word(1), nothing))
        bits = max(4, int(_LOAD * len(tokens)).bit_length())
        self._shift = np.uint64(64 - bits)
        self._mask = 2**bits - 1
        self._table = np.full(2**bits, -1, np.int32)
        self._fill(np.flatnonzero(short))

    def _fill(self, waiting: NDArray[np.int64]) -> None:
        slots = self._slots(self._first[waiting], self._second[waiting])
        while waiting.size:
            # Of the tokens that want one slot, the first takes it when it is free; the others try the next slot.
            wanted, firsts = np.unique(slots, return_index=True)
            free = self._table[wanted] < 0
            self._table[wanted[free]] = waiting[firsts[free]]
            left = np.ones(len(waiting), np.bool_)
            left[firsts[free]] = False
            waiting, slots = waiting[left], (slots[left] + 1) & self._mask

    def find(self, tokens: PackedTokens) -> NDArray[np.int64]:
        """The number of every token, -1 where it isn't known: int64 [tokens]."""
        first, second = tokens.word(0), tokens.word(1)
        slots = self._slots(first, second)
        found = self._table[slots].astype(np.int64)
        wrong = np.flatnonzero((found >= 0) & ((self._first[found] != first) | (self._second[found] != second)))
        while wrong.size:
            slots[wrong] = (slots[wrong] + 1) & self._mask
            found[wrong] = self._table[slots[wrong]]
            known = found[wrong]
            same = (self._first[known] == first[wrong]) & (self._second[known] == second[wrong])
            wrong = wrong[(known >= 0) & ~same]
        for index in np.flatnonzero(tokens.sizes > PACKED_BYTES).tolist():
            found[index] = self._long.get(tokens.bytes_at(index), -1)
        return found

    def _slots(self, first: Words, second: Words) -> NDArray[np.int64]:
        return (mix(first + second * _MIX_A) >> self._shift).astype(np.int64)
