"""Columns that give the target away, and columns that are in the table twice, found while it is read."""

from __future__ import annotations

from collections.abc import Sequence

from shoal_core.data.tables.frames import Frame

MAX_PAIRS = 1_000
_PROBE = 1_000


class LeakFinder:
    """Compares columns with each other, and with the target when it is known.

    `equal` groups are columns that held the same raw values in every row so far. A column *determines* the target when
    every value goes with one value of the target and the other way round; up to 1,000 values are compared.

    Args:
        target: The target's column, or None.
    """

    def __init__(self, target: str | None) -> None:
        self.target = target
        self._groups: list[tuple[str, ...]] | None = None
        self._pairs: dict[str, dict[object, object]] = {}

    def add(self, frame: Frame, columns: Sequence[str], rows: int) -> None:
        """Compare the columns of a frame; `columns` are all that are known, `rows` came before it."""
        if self._groups is None:
            self._groups = [tuple(columns)]
            self._pairs = {name: {} for name in columns if name != self.target}
        self._groups = [part for group in self._groups for part in _refined(frame, group)]
        if self.target is None:
            return
        for name in list(self._pairs):
            # Nearly all columns are out after the first rows, which costs little.
            probed = rows > 0 or _one_to_one({}, frame.pairs(name, self.target, _PROBE, MAX_PAIRS))
            if not probed or not _one_to_one(self._pairs[name], frame.pairs(name, self.target, None, MAX_PAIRS)):
                del self._pairs[name]

    def twins(self, name: str) -> tuple[str, ...]:
        """The other columns that equal this one in every row."""
        group = next((group for group in self._groups or () if name in group), ())
        return tuple(other for other in group if other != name)

    def determining(self) -> tuple[str, ...]:
        """Columns that determine the target without being equal to it."""
        equal = self.twins(self.target) if self.target else ()
        return tuple(name for name, pairs in self._pairs.items() if len(pairs) > 1 and name not in equal)


def _refined(frame: Frame, group: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The parts of a group that are still equal; columns alone are left out."""
    parts: list[tuple[object, list[str]]] = []
    prints = frame.fingerprints(group)
    for name in group:
        mark = prints.get(name)
        same = next((names for other, names in parts if other == mark), None)
        if same is None:
            parts.append((mark, [name]))
        else:
            same.append(name)
    return [tuple(names) for _, names in parts if len(names) > 1]


def _one_to_one(known: dict[object, object], pairs: set[tuple[object, object]]) -> bool:
    """Add pairs to what is known (left -> right); False when two lefts or two rights go together."""
    if len(pairs) > MAX_PAIRS:
        return False
    for left, right in pairs:
        if known.setdefault(left, right) != right:
            return False
    return len(known) <= MAX_PAIRS and len(set(known.values())) == len(known)
