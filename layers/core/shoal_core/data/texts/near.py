"""Near-duplicate texts: a MinHash signature per text, and groups of texts that share most of their words' runs.

A text is the set of its runs of three tokens (shingles; a shorter text is one run). 64 MinHash values come from one
hash per shingle: its upper bits say which of 64 bins it falls in, the least of a bin counts (one permutation hashing:
P. Li, A. Owen, C.-H. Zhang, 2012), and an empty bin takes the value of another one, the same for every text (A.
Shrivastava, "Optimal densification for fast and accurate minwise hashing", 2017). Of each value 8 bits are kept (b-bit
minwise hashing: P. Li, C. König, 2010), so a signature has 64 bytes, and the share of equal bytes estimates the Jaccard
similarity of two texts.

Texts are candidates when 4 neighbouring bytes (a band) agree, and near-duplicates when at least 52 of 64 bytes do: a
similarity of about 0.8, with a standard deviation of 0.05. A pair of that similarity is a candidate with a probability
above 0.999. No constant is random: hashes are the same in every process and on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shoal_core.data.cleaning_config import TextConfig
from shoal_core.data.near import TEXT_WORDS, Groups
from shoal_core.data.tables.cells import Cells
from shoal_core.data.texts.packed import Words, batches, mix, pack_tokens
from shoal_core.data.texts.tokens import token_texts

SHINGLE = 3
NEAR_BYTES = 52
"""Equal bytes of two signatures, of 64, from which on texts are near-duplicates."""

_WORDS = TextConfig()
_BINS = 64
_BAND = 4
_REACH = 64
"""Texts that share a band are compared with that many neighbours in the order of their signatures, at most."""
_CHUNK = 1 << 18
_EMPTY = np.uint64(2**64 - 1)
_SALTS = (np.uint64(0xD6E8FEB86659FD93), np.uint64(0xA0761D6478BD642F))


def near_hashes(found: Sequence[str | None], unit: str = "word") -> NDArray[np.uint64]:
    """Signatures of token texts: uint64 [N, 8]; all zeros for a text that is missing or empty.

    They are of the words, also where `unit` says that the model sees characters.
    """
    texts = [text or "" for text in (found if unit == "word" else token_texts(found, _WORDS))]
    signatures = np.zeros((len(texts), TEXT_WORDS), np.uint64)
    for start, stop in batches(texts):
        signatures[start:stop] = _signatures(texts[start:stop])
    return signatures


def near_columns(columns: Sequence[tuple[Cells, Sequence[str | None]]], unit: str) -> NDArray[np.uint64]:
    """Signatures of rows with one or more columns of texts: uint64 [N, 8].

    Args:
        columns: Cells with the token text of each of their values; texts of one row count together.
        unit: What the token texts are made of.
    """
    if len(columns) == 1:
        cells, texts = columns[0]
        return cells.spread(near_hashes(texts, unit), 0)
    codes = [cells.codes.tolist() for cells, _ in columns]
    rows = [
        " ".join(text for code, (_, texts) in zip(row, columns, strict=True) if code >= 0 and (text := texts[code]))
        for row in zip(*codes, strict=True)
    ]
    return near_hashes(rows, unit)


def group_texts(near_hash: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Group texts by their signatures; chains of near-duplicates are one group.

    The groups depend on the signatures alone, not on their order. Memory is about 200 bytes a text.

    Args:
        near_hash: uint64 [N, 8] of `near_hashes`; rows of zeros stay alone.

    Returns:
        int64 [N]: the smallest index of each one's group.
    """
    rows = np.ascontiguousarray(near_hash.astype("<u8"))
    indices = np.arange(len(rows))
    real = indices[rows.any(axis=1)]
    groups = indices.copy()
    if not real.size:
        return groups
    records = rows[real].view(f"V{8 * TEXT_WORDS}").reshape(-1)
    # Equal signatures are one entry; sorted, so that what follows doesn't depend on the order of the texts.
    entries, firsts, inverse = np.unique(records, return_index=True, return_inverse=True)
    signatures = entries.view(np.uint8).reshape(-1, _BINS)
    found = Groups(len(entries))
    bands = np.ascontiguousarray(signatures).view("<u4")
    for band in range(bands.shape[1]):
        _join(bands[:, band], signatures, found)
    roots = found.roots()
    smallest = np.full(len(entries), len(rows))
    np.minimum.at(smallest, roots, real[firsts])
    groups[real] = smallest[roots][inverse.reshape(-1)]
    return groups


def _signatures(texts: Sequence[str]) -> NDArray[np.uint64]:
    tokens = pack_tokens(texts)
    shingles, owner = _shingles(tokens.hashes(), tokens.text, tokens.rank, tokens.counts)
    least = np.full(len(texts) * _BINS, _EMPTY)
    bins = (shingles >> np.uint64(58)).astype(np.int64)
    np.minimum.at(least, owner * _BINS + bins, shingles)
    values = _filled(least.reshape(len(texts), _BINS), tokens.counts > 0)
    # Bins that took one value differ in their bytes, so that 64 bytes of a short text say more than one.
    kept = mix(values + _SALTS[0] * np.arange(_BINS, dtype=np.uint64)).astype(np.uint8)
    kept[tokens.counts == 0] = 0
    return kept.view("<u8").astype(np.uint64)


def _shingles(
    hashes: Words, text: NDArray[np.int64], rank: NDArray[np.int64], counts: NDArray[np.int64]
) -> tuple[Words, NDArray[np.int64]]:
    """The hash of each shingle, and the text it is of."""
    mixed = hashes.copy()
    for step in range(1, SHINGLE):
        following = np.where(text[step:] == text[: len(text) - step], hashes[step:], np.uint64(0))
        mixed[: len(following)] += following * _SALTS[step - 1]
    begins = rank < np.maximum(1, counts - (SHINGLE - 1))[text]
    return mix(mixed[begins]), text[begins]


def _filled(least: Words, real: NDArray[np.bool_]) -> Words:
    """Give every empty bin of a text with tokens the value of the first full bin in its own fixed order."""
    rows, bins = np.nonzero((least == _EMPTY) & real[:, np.newaxis])
    filled = least.copy()
    turn = 1
    while rows.size:
        value = least[rows, _TURNS[bins, turn]]
        full = value != _EMPTY
        filled[rows[full], bins[full]] = value[full]
        rows, bins = rows[~full], bins[~full]
        turn += 1
    return filled


def _turns() -> NDArray[np.int64]:
    """For each bin an order of all bins, itself first: int64 [64, 64]."""
    numbers = np.arange(_BINS * _BINS, dtype=np.uint64).reshape(_BINS, _BINS)
    keys = mix(numbers + np.uint64(1))
    keys[np.arange(_BINS), np.arange(_BINS)] = 0
    return np.argsort(keys, axis=1, kind="stable")


_TURNS = _turns()


def _join(keys: NDArray[np.uint32], signatures: NDArray[np.uint8], groups: Groups) -> None:
    """Join the near-duplicates among entries with equal keys."""
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    for step in range(1, min(_REACH, len(order) - 1) + 1):
        pairs = np.flatnonzero(keys[step:] == keys[:-step])
        if not pairs.size:
            return
        for start in range(0, len(pairs), _CHUNK):
            left, right = order[pairs[start : start + _CHUNK]], order[pairs[start : start + _CHUNK] + step]
            near = (signatures[left] == signatures[right]).sum(axis=1) >= NEAR_BYTES
            groups.join(left[near], right[near])
