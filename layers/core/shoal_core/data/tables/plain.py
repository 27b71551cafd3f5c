"""Plain runs of CSV by column: cells are found by their places, and told apart by their bytes, all at once.

A cell of up to 32 bytes is up to four words of eight bytes; equal words are equal cells, so a column of a million cells
is read as a few thousand texts. Longer cells and those with doubled quotes are read one by one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shoal_core.data.tables.blocks import Block, find_marks
from shoal_core.data.tables.cells import Cells
from shoal_core.data.tables.coding import Words, number_keys
from shoal_core.data.tables.formats import TableFormat
from shoal_core.data.tables.frames import CodedFrame

_WORD = 8
_LONGEST = 32
_RETURN = 13
_MASKS = np.array([(1 << 8 * size) - 1 for size in range(_WORD + 1)], np.uint64)


class PlainFrame(CodedFrame):
    """See `Frame`.

    Args:
        block: A plain run.
        form: Its format.
    """

    def __init__(self, block: Block, form: TableFormat) -> None:
        super().__init__(form.columns, block.lines, block.bad)
        text = self._text = block.text or b""
        self._quote = ord(form.quote)
        # Words are read beyond a cell's end, so there is something beyond the last one.
        self._bytes = np.frombuffer(text + bytes(_LONGEST + _WORD), np.uint8)
        self._words = np.ndarray((len(text) + _LONGEST,), "<u8", self._bytes.data, 0, (1,))
        array = self._bytes[: len(text)]
        marks, quotes = block.marks, np.empty(0, np.int64)
        if marks is None:
            marks, quotes = find_marks(array, form)
        elif form.quote.encode() in text:
            quotes = np.flatnonzero(array == self._quote)
        self._quotes = quotes
        self._returns = b"\r" in text
        # Column by column: the byte after each cell.
        self._ends = np.ascontiguousarray(marks.astype(np.int32).reshape(block.count, len(form.columns)).T)

    def _read(self, name: str) -> Cells:
        starts, stops = self._places(self.names.index(name))
        sizes = stops - starts
        short = sizes > 0
        odd = sizes > _LONGEST
        if self._quotes.size:
            odd |= np.searchsorted(self._quotes, stops) > np.searchsorted(self._quotes, starts)
        if odd.any():
            short &= ~odd
        rows = None if short.all() else np.flatnonzero(short)
        if rows is not None:
            starts_of, sizes_of = starts[rows], sizes[rows]
        else:
            starts_of, sizes_of = starts, sizes
        words = self._keys(starts_of, sizes_of)
        codes, firsts = number_keys(words, rows, len(sizes))
        places = firsts if rows is None else np.searchsorted(rows, firsts)
        values = _texts([word[places] for word in words])
        if odd.any():
            return self._with_odd(np.flatnonzero(odd), starts, stops, codes, values, firsts)
        return Cells(codes, values, "")

    def _places(self, column: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where the cells of a column begin and end, without their quotes."""
        stops = self._ends[column].astype(np.int64)
        if column:
            starts = self._ends[column - 1].astype(np.int64)
            starts += 1
        else:
            starts = np.zeros(len(stops), np.int64)
            starts[1:] = self._ends[-1][:-1]
            starts[1:] += 1
        if self._returns and column == len(self._ends) - 1:
            stops -= (stops > starts) & (self._bytes[stops - 1] == _RETURN)
        if self._quotes.size:
            quoted = (stops > starts) & (self._bytes[starts] == self._quote)
            starts += quoted
            stops -= quoted
        return starts, stops

    def _keys(self, starts: NDArray[np.int64], sizes: NDArray[np.int64]) -> list[Words]:
        """The bytes of cells as words; what lies beyond a cell is zero, and no cell holds a zero byte."""
        found: list[Words] = []
        left = sizes
        for offset in range(0, int(sizes.max(initial=1)), _WORD):
            word = self._words[starts + offset] if offset else self._words[starts]
            word &= _MASKS[np.clip(left, 0, _WORD)]
            found.append(word.astype(np.uint64, copy=False))
            left = left - _WORD
        return found

    def _with_odd(
        self,
        rows: NDArray[np.int64],
        starts: NDArray[np.int64],
        stops: NDArray[np.int64],
        codes: NDArray[np.int32],
        values: list[str],
        firsts: NDArray[np.int64],
    ) -> Cells:
        """Add the cells that are read one by one; values stay in the order in which they first appear."""
        quote = chr(self._quote)
        index: dict[str, int] = {}
        begins: list[int] = []
        for row in rows.tolist():
            cell = self._text[int(starts[row]) : int(stops[row])].decode().replace(quote * 2, quote)
            code = index.setdefault(cell, len(begins))
            if code == len(begins):
                begins.append(row)
            codes[row] = len(values) + code
        order = np.argsort(np.concatenate((firsts, np.array(begins, np.int64))), kind="stable")
        places = np.empty(len(order) + 1, np.int32)
        places[order] = np.arange(len(order), dtype=np.int32)
        places[-1] = -1
        both = [*values, *index]
        return Cells(places[codes], [both[place] for place in order.tolist()], "")


def _texts(words: list[Words]) -> list[str]:
    """The texts that keys are."""
    if not len(words[0]):
        return []
    joined = np.ascontiguousarray(np.stack(words, axis=1).astype("<u8"))
    cells: list[bytes] = joined.view(f"S{_WORD * len(words)}")[:, 0].tolist()
    return b"\0".join(cells).decode().split("\0")
