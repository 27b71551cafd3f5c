"""Which columns are texts, and the tokens of those that are, counted while the table is read for the first time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shoal_core.data.cleaning_config import TextConfig
from shoal_core.data.tables.frames import Distinct
from shoal_core.data.values import parse_text

if TYPE_CHECKING:
    from shoal_core.data.spec import TextColumn
    from shoal_core.data.texts.vocabulary import TokenCounter

TEXT_WORDS = 4.0
TEXT_CHARACTERS = 50.0
_PROBE = 50


class WordCounter:
    """Tokens of one column, if its first 50 distinct values look like texts: four words or 50 characters on average.

    Args:
        config: How texts become tokens.
        wanted: Whether the settings say that the column is a text.
    """

    def __init__(self, config: TextConfig, wanted: bool = False) -> None:
        self._config = config
        self._pending: dict[str, int] | None = None if wanted else {}
        self._counter: TokenCounter | None = None
        self.wanted = wanted

    def add(self, found: Distinct) -> None:
        """Count a frame's texts."""
        if self._pending is None and not self.wanted:
            return
        texts: list[str] = []
        for value, times in zip(found.values, found.counts.tolist(), strict=True):
            try:
                text = parse_text(value)
            except ValueError:
                continue
            if text is None:
                continue
            if self._pending is None:
                texts += [text] * times
            else:
                self._pending[text] = self._pending.get(text, 0) + times
                if len(self._pending) >= _PROBE:
                    self._decide()
                    if not self.wanted:
                        return
        self._feed(texts)

    def column(self, name: str) -> TextColumn | None:
        """The column as a text; None when it doesn't look like one."""
        if self._pending is not None:
            self._decide()
        return self._counter.column(name) if self._counter is not None else None

    def _decide(self) -> None:
        """Whether the first values look like texts."""
        pending, self._pending = self._pending or {}, None
        if pending:
            words = sum(len(text.split()) for text in pending) / len(pending)
            characters = sum(map(len, pending)) / len(pending)
            self.wanted = words >= TEXT_WORDS or (characters >= TEXT_CHARACTERS and words > 1.5)
        if self.wanted:
            self._feed([text for text, times in pending.items() for _ in range(times)])

    def _feed(self, texts: list[str]) -> None:
        if not texts:
            return
        if self._counter is None:
            # Normalisation of texts is loaded only where there are texts.
            from shoal_core.data.texts.vocabulary import TokenCounter

            self._counter = TokenCounter(self._config)
        self._counter.add_many(texts)
