"""Tensors that one preprocessing spec encoded, as another one would have: where that can be known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shoal_core.data.shards import Tensors
from shoal_core.data.spec import CategoryColumn, PreprocessingSpec, TextColumn
from shoal_core.errors import BadInput

CodeMap = NDArray[np.int64]
_FIRST_TOKEN = 2


class Incomparable(BadInput):
    """Two specs of which one's tensors can't be told from the other's."""


class Translation:
    """Turns tensors of `source` into those that `target` gives of the same samples.

    Where the specs are equal, nothing changes. Codes of categories and tokens are translated where `target` knows no
    value that `source` doesn't: then every value has the code that `target` itself would give it.

    Args:
        source: The spec that encoded the tensors.
        target: The spec whose tensors are wanted.

    Raises:
        Incomparable: They differ in more than that; the reason says in what.
    """

    def __init__(self, source: PreprocessingSpec, target: PreprocessingSpec) -> None:
        _check_target(source, target)
        left, right = _shape(source), _shape(target)
        differing = sorted(name for name in left.keys() | right.keys() if left.get(name) != right.get(name))
        if differing:
            raise Incomparable(f"their inputs differ in {', '.join(differing)}")
        self._categories: list[CodeMap | None] = []
        self._tokens: list[tuple[int, CodeMap | None]] = []
        if source.table is not None and target.table is not None:
            pairs = zip(source.table.categories, target.table.categories, strict=True)
            self._categories = [_categories(mine, theirs) for mine, theirs in pairs]
            texts = zip(source.table.texts, target.table.texts, strict=True)
            self._tokens = [(mine.length, _tokens(mine, theirs)) for mine, theirs in texts]

    def __call__(self, tensors: Tensors) -> Tensors:
        """The tensors, translated; what needs no translation is the same array."""
        result = dict(tensors)
        if any(codes_of is not None for codes_of in self._categories) and "categories" in result:
            codes = result["categories"]
            columns = zip(self._categories, codes.T, strict=True)
            result["categories"] = np.stack([part if of is None else of[part] for of, part in columns], axis=1)
        if any(codes_of is not None for _, codes_of in self._tokens) and "tokens" in result:
            result["tokens"] = self._translated(result["tokens"])
        return result

    def _translated(self, tokens: NDArray[Any]) -> NDArray[Any]:
        parts, start = [], 0
        for length, codes_of in self._tokens:
            part = tokens[:, start : start + length]
            parts.append(part if codes_of is None else codes_of[part].astype(tokens.dtype))
            start += length
        return np.concatenate(parts, axis=1)


def _check_target(source: PreprocessingSpec, target: PreprocessingSpec) -> None:
    if source.target.task != target.target.task:
        raise Incomparable(f"one is for {source.target.task}, the other for {target.target.task}")
    if source.target.classes != target.target.classes:
        new = sorted(set(source.target.classes) ^ set(target.target.classes))[:5]
        raise Incomparable(f"their classes differ: {', '.join(map(repr, new)) or 'their order'}")


def _shape(spec: PreprocessingSpec) -> Mapping[str, Any]:
    """All that decides a spec's tensors but the values that codes stand for."""
    part: dict[str, Any] = {"kind": spec.kind}
    for name, value in (("image", spec.image), ("table", spec.table), ("sequence", spec.sequence)):
        if value is not None:
            part |= {f"{name}.{field}": entry for field, entry in value.model_dump(mode="json").items()}
    part.pop("table.ignored", None)
    part.pop("sequence.ignored", None)
    for column in part.get("table.categories", ()):
        del column["categories"]
    for column in part.get("table.texts", ()):
        del column["vocabulary"]
    return part


def _categories(source: CategoryColumn, target: CategoryColumn) -> CodeMap | None:
    if source.categories == target.categories:
        return None
    if source.buckets:
        raise Incomparable(f"column {source.name!r}: other values have codes of their own")
    return _codes(source.name, source.categories, target.categories, 1, 0)


def _tokens(source: TextColumn, target: TextColumn) -> CodeMap | None:
    if source.buckets or source.vocabulary == target.vocabulary:
        return None
    return _codes(source.name, source.vocabulary, target.vocabulary, _FIRST_TOKEN, 1)


def _codes(column: str, source: Sequence[str], target: Sequence[str], first: int, unknown: int) -> CodeMap:
    """For each code of `source`, the one of `target`; those below `first` stay."""
    known = {text: code for code, text in enumerate(target, first)}
    missing = sorted(known.keys() - set(source))
    if missing:
        shown = ", ".join(map(repr, missing[:3]))
        raise Incomparable(
            f"column {column!r}: {len(missing)} of the values that one knows the other doesn't ({shown})"
        )
    return np.array([*range(first), *(known.get(text, unknown) for text in source)], np.int64)
