"""Learning what a column of texts is made of: its most frequent tokens, and how long its texts are.

What holds of the vocabulary:

- While no more than `MAX_DISTINCT` different tokens were met, counts are exact: any order, any cut and any order of
  merging give the same column.
- Beyond that, the rarest tokens are forgotten (Misra and Gries, 1982, as Agarwal et al., "Mergeable summaries", 2013):
  the counts of the `KEPT_DISTINCT` most frequent ones remain, less the count of the next one. This happens after the
  text that goes over the bound, so the same texts in the same order give the same column however they are handed over
  in one counter. For another order or other merges, this holds: a count is too low by at most `error`, which is at most
  the number of all tokens over `KEPT_DISTINCT`, and no token that occurs more often than `error` is missing.
- Lengths are counted exactly, whatever the order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from shoal_core.data.cleaning_config import MAX_TOKENS, TextConfig
from shoal_core.data.spec import TextColumn
from shoal_core.data.texts.packed import TokenTable, batches
from shoal_core.data.texts.tokens import count_ids, pack_texts, split_tokens, token_text, token_texts

MAX_DISTINCT = 500_000
KEPT_DISTINCT = 250_000
"""More than the largest vocabulary that `dataset.yaml` can ask for."""
MAX_TOKEN_LENGTH = 100
"""Longer tokens (encoded data, mostly) are never learnt, so memory is bounded."""
_FIRST_TABLE = 1_000
_GROWTH = 1.5
LENGTH_QUANTILE = 0.95
MAX_INFERRED = {"word": 512, "character": 1024}
"""The longest length that is inferred; `text.length` may ask for more."""


class TokenCounter:
    """Counts the tokens and the lengths of one column of texts, in bounded memory (about 150 MB at the most).

    Args:
        config: How texts become tokens.
    """

    def __init__(self, config: TextConfig) -> None:
        self._config = config
        self._counts: Counter[str] = Counter()
        # How many texts have 0, 1, ... tokens; the last entry counts longer ones.
        self._lengths = np.zeros(MAX_TOKENS + 1, np.int64)
        # Tokens that are counted by their number in a table: a snapshot of those known some time ago.
        self._known: list[str] = []
        self._table = TokenTable([])
        self._fast = np.zeros(0, np.int64)
        self.error = 0

    @property
    def texts(self) -> int:
        """Texts counted, missing ones left out."""
        return int(self._lengths.sum())

    @property
    def distinct(self) -> int:
        """Different tokens that are known: exact while `error` is 0."""
        return len(self._counts)

    def add(self, text: str | None) -> None:
        """Count one text; a missing one counts nothing."""
        if text is not None:
            self._add_token_text(token_text(text, self._config))

    def add_many(self, texts: Sequence[str | None]) -> None:
        """Count texts, one after the other; the same as `add` of each, and much faster."""
        present = [text for text in texts if text is not None]
        # Order matters only where tokens are forgotten, and there texts are counted one by one.
        for start, stop in batches(present):
            batch = present[start:stop]
            if self._config.unit == "word" and self._add_batch(batch):
                continue
            for text in token_texts(batch, self._config):
                self._add_token_text(text or "")

    def _add_token_text(self, text: str) -> None:
        tokens = split_tokens(text, self._config.unit)
        self._lengths[min(len(tokens), MAX_TOKENS)] += 1
        if self._config.buckets is not None:
            return  # hashing needs no vocabulary
        if any(len(token) > MAX_TOKEN_LENGTH for token in tokens):
            tokens = [token for token in tokens if len(token) <= MAX_TOKEN_LENGTH]
        self._counts.update(tokens)
        self._forget()

    def _add_batch(self, texts: list[str]) -> bool:
        """Count texts of words; False (and nothing counted) when tokens might have to be forgotten in between."""
        packed = pack_texts(texts, self._config)
        if self._config.buckets is None:
            numbers = self._table.find(packed)
            strange = packed.take((numbers < 0) & (packed.sizes <= MAX_TOKEN_LENGTH)).texts()
            # Where letters take several bytes, more of those may be few enough.
            longer = packed.take((numbers < 0) & (packed.sizes > MAX_TOKEN_LENGTH)).texts()
            strange += [token for token in longer if len(token) <= MAX_TOKEN_LENGTH]
            room = MAX_DISTINCT - len(self._counts)
            if len(strange) > room and len(set(strange) - self._counts.keys()) > room:
                return False
            self._fast += np.bincount(numbers[numbers >= 0], minlength=len(self._known))
            self._counts.update(strange)
            if len(self._counts) > _GROWTH * len(self._known) + _FIRST_TABLE:
                self._settle()
                self._known = list(self._counts)
                self._table = TokenTable(self._known)
                self._fast = np.zeros(len(self._known), np.int64)
        self._lengths += np.bincount(np.minimum(packed.counts, MAX_TOKENS), minlength=MAX_TOKENS + 1)
        return True

    def _settle(self) -> None:
        """Bring what was counted by number to the counts by token."""
        for number in np.flatnonzero(self._fast).tolist():
            self._counts[self._known[number]] += int(self._fast[number])
        self._fast[:] = 0

    def merge(self, other: TokenCounter) -> None:
        """Add what another counter of the same settings has counted.

        Raises:
            ValueError: The counters have different settings.
        """
        if other._config != self._config:
            raise ValueError("only counters of the same settings can be merged")
        self._settle()
        other._settle()
        self._counts.update(other._counts)
        self._lengths += other._lengths
        self.error += other.error
        self._forget()

    def column(self, name: str) -> TextColumn:
        """The column of the spec: the vocabulary, most frequent tokens first (ties by text), and the length.

        A length that isn't asked for is the least that holds `LENGTH_QUANTILE` of the texts whole, at most
        `MAX_INFERRED` tokens.
        """
        config = self._config
        return TextColumn(
            name=name,
            length=config.length or self._length(),
            unit=config.unit,
            lowercase=config.lowercase,
            normalization=config.normalization,
            vocabulary=() if config.buckets else tuple(self._most_frequent(config.vocabulary)),
            buckets=config.buckets or 0,
            ngrams=config.ngrams,
        )

    def _length(self) -> int:
        reached = np.cumsum(self._lengths) >= LENGTH_QUANTILE * self.texts
        tokens = min(int(np.argmax(reached)), MAX_INFERRED[self._config.unit])
        return min(max(1, count_ids(tokens, self._config.ngrams)), MAX_TOKENS)

    def _most_frequent(self, limit: int) -> list[str]:
        self._settle()
        found = list(self._counts.items())
        if len(found) > limit:
            counts = np.fromiter(self._counts.values(), np.int64, len(found))
            least = int(np.partition(counts, -limit)[-limit])
            found = [entry for entry in found if entry[1] >= least]
        return [token for token, _ in sorted(found, key=lambda entry: (-entry[1], entry[0]))[:limit]]

    def _forget(self) -> None:
        if len(self._counts) <= MAX_DISTINCT:
            return
        self._settle()
        counts = np.fromiter(self._counts.values(), np.int64, len(self._counts))
        # The count of the first token that isn't kept goes from all: what is left is at most KEPT_DISTINCT tokens.
        threshold = int(np.partition(counts, -KEPT_DISTINCT - 1)[-KEPT_DISTINCT - 1])
        self._counts = Counter({token: count - threshold for token, count in self._counts.items() if count > threshold})
        self.error += threshold
        self._known, self._table, self._fast = [], TokenTable([]), np.zeros(0, np.int64)
