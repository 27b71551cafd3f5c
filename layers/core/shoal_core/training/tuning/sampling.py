"""What a trial tries: a pure function of the search's seed and the trial's number."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from shoal_core.data.canonical import canonical_json
from shoal_core.training.tuning.space import Space

_DRAWS = 50
"""How often a trial draws again when what it drew was tried already, before another recipe has its turn."""


class Sampler:
    """The trials of a search, from 0 on; no two of them try the same.

    Args:
        space: What may be tried.
        seed: Of the draws.
        baseline: Whether trial 0 changes nothing.
    """

    def __init__(self, space: Space, seed: int, baseline: bool) -> None:
        self._space, self._seed = space, seed
        self._recipes = sorted(space.recipes)
        self._drawn: list[dict[str, Any]] = [{}] if baseline else []
        self._tried = {canonical_json(values) for values in self._drawn}
        self._exhausted = False

    def __call__(self, number: int) -> dict[str, Any] | None:
        """Fields of dataset.yaml by their dotted names; None where the space has no more that is new."""
        while len(self._drawn) <= number and not self._exhausted:
            values = self._new(len(self._drawn))
            if values is None:
                self._exhausted = True
            else:
                self._drawn.append(values)
                self._tried.add(canonical_json(values))
        return self._drawn[number] if number < len(self._drawn) else None

    def most(self, wanted: int) -> int:
        """How many trials there are, up to `wanted`."""
        self(wanted - 1)
        return min(wanted, len(self._drawn))

    def _new(self, number: int) -> dict[str, Any] | None:
        for draw in range(_DRAWS * max(1, len(self._recipes))):
            values = self._draw(number, draw, self._recipes)
            if canonical_json(values) not in self._tried:
                return values
        return None

    def _draw(self, number: int, draw: int, recipes: Sequence[str]) -> dict[str, Any]:
        recipe = None
        if recipes:
            # Recipes take turns: with few trials, draws would leave some of them out.
            turn = int(_share(f"{self._seed}/recipe") * len(recipes)) + number + draw // _DRAWS
            recipe = recipes[turn % len(recipes)]
        values: dict[str, Any] = {"recipe": recipe} if recipe else {}
        for name, drawn in sorted(self._space.of_recipe(recipe or "").items()):
            values[name] = drawn.at(_share(f"{self._seed}/{number}/{draw}/{name}"))
        return values


def _share(text: str) -> float:
    """A number in [0, 1) that a text stands for: the same on every machine, and for every release of Python."""
    return (int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 11) / 2**53
