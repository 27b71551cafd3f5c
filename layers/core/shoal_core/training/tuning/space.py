"""What a search may try: distributions of the fields of dataset.yaml that say how to train.

```yaml
recipes:                                     # take turns; each may have fields of its own
  mlp: {network.hidden: {choice: [[64, 32], [256, 128]]}}
  linear: {}
training.learning_rate: {log_uniform: [0.0001, 0.1]}
training.batch_size: {choice: [16, 32, 64]}
training.epochs: {int: [5, 20]}
training.label_smoothing: {uniform: [0, 0.2]}
training.optimizer: adamw                    # a plain value is the same for every trial
```
Fields are written with dots, or nested as in dataset.yaml.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from shoal_core.data.canonical import canonical_json
from shoal_core.data.config import DatasetConfig
from shoal_core.errors import BadConfig
from shoal_core.training.requests import OVERRIDABLE, overridden

MAX_FIELDS = 50
MAX_CHOICES = 100
MAX_SPACE_BYTES = 64 * 1024
FIXED = ("workers", "budget", "compute")
"""Fields that a trial can't vary: each trains with one worker of a lane, and the search has a budget of its own."""
_NAME = "The search space"
_FORMS = "a value, {choice: [a, b]}, {uniform: [low, high]}, {log_uniform: [low, high]} or {int: [low, high]}"
_RECIPES = "recipes"
_DIGITS = 4
# Significant digits of a sampled number: it is read by people, and the same on every machine.


class Distribution(Protocol):
    """What a field is drawn from."""

    def at(self, share: float) -> Any:  # noqa: ANN401 - a value of dataset.yaml
        """The value at a share in [0, 1)."""
        ...

    def extremes(self) -> Sequence[Any]:
        """Values such that the field takes all values if it takes these."""
        ...

    def document(self) -> Any:  # noqa: ANN401 - JSON
        """The distribution as it is written in a space."""
        ...


@dataclass(frozen=True)
class Choice:
    """One of some values, each as likely as the others; a single one is a fixed value."""

    values: tuple[Any, ...]

    def at(self, share: float) -> Any:  # noqa: ANN401
        """See `Distribution.at`."""
        return self.values[int(share * len(self.values))]

    def extremes(self) -> Sequence[Any]:
        """See `Distribution.extremes`."""
        return self.values

    def document(self) -> Any:  # noqa: ANN401
        """See `Distribution.document`."""
        return {"choice": list(self.values)}


@dataclass(frozen=True)
class Uniform:
    """A number of an interval, or with `log` its logarithm, each as likely as the others; to four digits."""

    low: float
    high: float
    log: bool = False

    def at(self, share: float) -> Any:  # noqa: ANN401
        """See `Distribution.at`."""
        if self.log:
            low, high = math.log(self.low), math.log(self.high)
            value = math.exp(low + share * (high - low))
        else:
            value = self.low + share * (self.high - self.low)
        return min(self.high, max(self.low, float(f"{value:.{_DIGITS}g}")))

    def extremes(self) -> Sequence[Any]:
        """See `Distribution.extremes`."""
        return (self.low, self.high)

    def document(self) -> Any:  # noqa: ANN401
        """See `Distribution.document`."""
        return {"log_uniform" if self.log else "uniform": [self.low, self.high]}


@dataclass(frozen=True)
class Integers:
    """A whole number of an interval, both ends included."""

    low: int
    high: int

    def at(self, share: float) -> Any:  # noqa: ANN401
        """See `Distribution.at`."""
        return self.low + int(share * (self.high - self.low + 1))

    def extremes(self) -> Sequence[Any]:
        """See `Distribution.extremes`."""
        return (self.low, self.high)

    def document(self) -> Any:  # noqa: ANN401
        """See `Distribution.document`."""
        return {"int": [self.low, self.high]}


Fields = Mapping[str, Distribution]


@dataclass(frozen=True)
class Space:
    """Distributions by the dotted name of a field; those of one recipe go before those of all."""

    fields: Fields = field(default_factory=dict)
    recipes: Mapping[str, Fields] = field(default_factory=dict)

    def of_recipe(self, recipe: str) -> Fields:
        """What a trial of a recipe draws."""
        return {**self.fields, **self.recipes.get(recipe, {})}

    def document(self) -> dict[str, Any]:
        """The space as JSON; `parse_space` reads it again."""
        found: dict[str, Any] = {name: drawn.document() for name, drawn in self.fields.items()}
        if self.recipes:
            found[_RECIPES] = {
                recipe: {name: drawn.document() for name, drawn in own.items()} for recipe, own in self.recipes.items()
            }
        return found


def parse_space(document: Mapping[str, Any]) -> Space:
    """Read a space.

    Raises:
        BadConfig: A field that no trial can vary, or something that isn't a distribution; the reason names the field.
    """
    try:
        size = len(canonical_json(dict(document)))
    except (ValueError, TypeError) as error:
        raise BadConfig(f"{_NAME} isn't JSON: {error}.", "Use texts, numbers, lists and fields.") from error
    if size > MAX_SPACE_BYTES:
        raise BadConfig(f"{_NAME} has {size:,} bytes.", f"Keep it under {MAX_SPACE_BYTES:,}.")
    rest = {name: value for name, value in document.items() if name != _RECIPES}
    fields = dict(_fields(rest))
    recipes = _recipes(document[_RECIPES]) if _RECIPES in document else {}
    asked = fields.pop("recipe", None)
    if asked is not None:
        if recipes:
            raise BadConfig(f"{_NAME} has both recipe and recipes.", "Keep `recipes`.")
        recipes = {str(recipe): {} for recipe in _of_choice(asked)}
    space = Space(fields, recipes)
    if not space.fields and not space.recipes:
        raise BadConfig(f"{_NAME} is empty.", f"Write `field: distribution` lines: {_FORMS}.")
    return space


def _of_choice(asked: Distribution) -> Sequence[Any]:
    if not isinstance(asked, Choice):
        raise BadConfig(f"{_NAME}: recipe isn't a number.", "Write {choice: [mlp, linear]}.")
    return asked.values


def _recipes(value: Any) -> dict[str, Fields]:  # noqa: ANN401
    if isinstance(value, list):
        value = {str(recipe): {} for recipe in value}
    if not isinstance(value, Mapping) or not value:
        raise BadConfig(f"{_NAME}: recipes isn't a list of recipes.", "Write {mlp: {}, linear: {}}.")
    found: dict[str, Fields] = {}
    for recipe, own in value.items():
        if own is not None and not isinstance(own, Mapping):
            raise BadConfig(f"{_NAME}: recipes.{recipe} holds no fields.", f"Write {{{recipe}: {{}}}} for none.")
        found[str(recipe)] = dict(_fields(own or {}))
        if "recipe" in found[str(recipe)]:
            raise BadConfig(f"{_NAME}: recipes.{recipe} names a recipe again.", "Leave that field out.")
    return found


def _fields(document: Mapping[str, Any]) -> Iterator[tuple[str, Distribution]]:
    """Every field with what it is drawn from."""
    found: dict[str, Distribution] = {}
    for name, value in _leaves("", document):
        root = name.partition(".")[0]
        if root in FIXED:
            raise BadConfig(
                f"{_NAME}: {name} is the same for every trial.",
                "A trial trains with one worker; lanes and budget are the search's own.",
            )
        if root not in OVERRIDABLE:
            known = ", ".join(known for known in OVERRIDABLE if known not in FIXED)
            raise BadConfig(f"{_NAME}: {name} doesn't say how to train.", f"Fields of {known} can be varied.")
        if name in found:
            raise BadConfig(f"{_NAME}: {name} is there twice.", "Write it once, with dots or nested.")
        found[name] = value
    if len(found) > MAX_FIELDS:
        raise BadConfig(f"{_NAME} has {len(found)} fields.", f"Vary at most {MAX_FIELDS}.")
    yield from found.items()


def _leaves(prefix: str, value: Mapping[str, Any]) -> Iterator[tuple[str, Distribution]]:
    for name, inner in value.items():
        path = f"{prefix}{name}"
        if not isinstance(inner, Mapping):
            yield path, Choice((inner,))
        elif set(inner) & set(_READERS):
            yield path, _distribution(path, inner)
        else:
            yield from _leaves(f"{path}.", inner)


def _distribution(name: str, value: Mapping[str, Any]) -> Distribution:
    if len(value) != 1:
        raise BadConfig(f"{_NAME}: {name} is of several forms: {', '.join(map(str, value))}.", f"Write {_FORMS}.")
    ((form, bounds),) = value.items()
    if not isinstance(bounds, list | tuple) or not bounds:
        raise BadConfig(f"{_NAME}: {name}: {form} isn't a list.", f"Write {_FORMS}.")
    return _READERS[form](name, bounds)


def _choice(name: str, values: Sequence[Any]) -> Distribution:
    if len(values) > MAX_CHOICES:
        raise BadConfig(f"{_NAME}: {name} has {len(values)} choices.", f"Give at most {MAX_CHOICES}.")
    return Choice(tuple(values))


def _uniform(name: str, bounds: Sequence[Any]) -> Distribution:
    low, high = _bounds(name, bounds)
    return Uniform(float(low), float(high))


def _log_uniform(name: str, bounds: Sequence[Any]) -> Distribution:
    low, high = _bounds(name, bounds)
    if low <= 0:
        raise BadConfig(
            f"{_NAME}: {name}: a logarithm needs numbers above 0, not {low:g}.", "Raise it, or use uniform."
        )
    return Uniform(float(low), float(high), log=True)


def _integers(name: str, bounds: Sequence[Any]) -> Distribution:
    low, high = _bounds(name, bounds)
    if not (isinstance(low, int) and isinstance(high, int)):
        raise BadConfig(f"{_NAME}: {name}: int needs whole numbers.", "Write {int: [1, 10]}, or use uniform.")
    return Integers(low, high)


def _bounds(name: str, bounds: Sequence[Any]) -> tuple[float, float]:
    """Two finite numbers in order; YAML reads `1e-3` (no dot) as text."""
    numbers = [_number(bound) for bound in bounds]
    if len(numbers) != 2 or any(number is None or not math.isfinite(number) for number in numbers):
        raise BadConfig(f"{_NAME}: {name}: {list(bounds)!r} isn't a lowest and a highest number.", f"Write {_FORMS}.")
    low, high = numbers
    if low is None or high is None or low > high:
        raise BadConfig(f"{_NAME}: {name}: {low!r} is above {high!r}.", "Write the lower one first.")
    return low, high


def _number(value: object) -> float | None:
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return None
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


_READERS: Mapping[str, Callable[[str, Sequence[Any]], Distribution]] = {
    "choice": _choice,
    "uniform": _uniform,
    "log_uniform": _log_uniform,
    "int": _integers,
}


def check_space(space: Space, config: DatasetConfig) -> None:
    """Refuse a space with a value that dataset.yaml wouldn't take either.

    Args:
        space: The space.
        config: The dataset version's, over which trials lay what they drew.

    Raises:
        BadConfig: The reason names the field.
    """
    for recipe in space.recipes or (None,):
        chosen = {"recipe": recipe} if recipe else {}
        for name, drawn in {**space.fields, **space.recipes.get(recipe or "", {})}.items():
            for value in drawn.extremes():
                checked(config, {**chosen, name: value})
        checked(config, chosen)


def checked(config: DatasetConfig, values: Mapping[str, Any]) -> DatasetConfig:
    """dataset.yaml with values by dotted names over it. Raises `BadConfig`."""
    try:
        return overridden(config, nested(values))
    except BadConfig as error:
        raise BadConfig(error.reason.replace("the request", _NAME, 1), error.fix) from error


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by dotted names, nested as dataset.yaml nests them.

    Raises:
        BadConfig: One field lies inside of another.
    """
    found: dict[str, Any] = {}
    for name, value in values.items():
        *parents, leaf = name.split(".")
        place = found
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise BadConfig(f"{_NAME}: {name} lies inside of {parent}, which is there, too.", "Vary one of them.")
        if leaf in place:
            raise BadConfig(f"{_NAME}: {name} and fields inside of it are both there.", "Vary one of them.")
        place[leaf] = value
    return found
