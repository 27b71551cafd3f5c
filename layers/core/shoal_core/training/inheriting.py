"""A warm start: a run goes on from the weights of an earlier one, on a new version of its dataset.

What a weight means may have moved: a vocabulary is in another order, a class is new, a target has another scale. Rows
and columns are therefore matched by the word, category or class that they stand for, not by their number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shoal_core.data.canonical import canonical_json
from shoal_core.data.manifest import Manifest
from shoal_core.data.shards import Tensors
from shoal_core.data.spec import PreprocessingSpec
from shoal_core.errors import BadConfig, NotFound
from shoal_core.frozen import Frozen
from shoal_core.graphs.recipes.network import OUTPUT
from shoal_core.keys import RunKeys
from shoal_core.store import ObjectStore
from shoal_core.training.checkpoints import Checkpoint
from shoal_core.training.merging import read_served
from shoal_core.training.rounds import read_checkpoint, read_manifest, read_settings
from shoal_core.training.settings import TrainingSettings
from shoal_core.training.signatures import signature_of
from shoal_core.training.states import last_round, read_round

_NEW = -1
_ONE_HOT_ALWAYS = 2**63


class Origin(Frozen):
    """`origin.json`: the run whose best weights a run begins with; None where there is none."""

    run_id: str | None


@dataclass(frozen=True)
class Inherited:
    """What became of a warm start.

    Attributes:
        checkpoint: Where the run begins.
        origin: The run that it goes on from; None when it begins anew.
        note: What was taken, or why nothing was.
    """

    checkpoint: Checkpoint
    origin: str | None
    note: str


def decide_origin(artifacts: ObjectStore, run_id: str, production: Callable[[], str | None]) -> str | None:
    """The run to go on from, decided once: a repeated start goes on from the same one.

    Args:
        artifacts: The artifacts bucket.
        run_id: The run that starts.
        production: Gives the run of the model version that serves; None when there is none.
    """
    key = RunKeys(run_id).origin
    if not artifacts.exists(key):
        document = Origin(run_id=production()).model_dump(mode="json")
        artifacts.write_new(key, canonical_json(document), "application/json")
    return Origin.model_validate_json(artifacts.read(key)).run_id


def inherit(
    artifacts: ObjectStore, origin: str | None, initial: Checkpoint, manifest: Manifest, settings: TrainingSettings
) -> Inherited:
    """The first checkpoint of a run that goes on from another one's best weights.

    Parameters are taken where they mean the same: those of equal shape as they are, embeddings row by row, the last
    layer class by class (of a regression: brought to the new target's scale). The rest, and the optimizer's state,
    begin anew.

    Args:
        artifacts: The artifacts bucket.
        origin: The run to go on from.
        initial: The checkpoint of a fresh start.
        manifest: The run's data.
        settings: The run's.
    """
    if origin is None:
        return Inherited(initial, None, "There is no version in production yet: training begins anew.")
    try:
        earlier = read_settings(artifacts, origin)
        data = read_manifest(artifacts, earlier)
        weights = _best(artifacts, earlier)
    except NotFound:
        why = f"the weights of {origin!r}, which serves, aren't kept (they are for 90 days)"
        return Inherited(initial, None, f"Training begins anew: {why}.")
    reason = _obstacle(earlier, settings, data, manifest)
    if reason is not None:
        return Inherited(initial, None, f"Training begins anew, not from run {origin!r}: {reason}.")
    return _inherited(earlier, data, weights, initial, manifest, settings)


def go_on_from(
    artifacts: ObjectStore, named: str, initial: Checkpoint, manifest: Manifest, settings: TrainingSettings
) -> Inherited:
    """The same from a run that was named: `RUN`, for its best weights, or `RUN@ROUND`, for its checkpoint of a round.

    Args:
        artifacts: The artifacts bucket.
        named: What `training.warm_start` says.
        initial: The checkpoint of a fresh start.
        manifest: The run's data.
        settings: The run's.

    Raises:
        BadConfig: There is no such run or round, the run still trains, or its network was another.
    """
    what, (origin, _, number) = f"training.warm_start: {named!r}", named.partition("@")
    try:
        earlier = read_settings(artifacts, origin)
        data = read_manifest(artifacts, earlier)
        if not number and not _is_finished(artifacts, origin):
            raise BadConfig(f"{what}: the run hasn't finished its training.", f"Name one of its rounds: {origin}@1.")
        weights = read_checkpoint(artifacts, origin, int(number)) if number else _best(artifacts, earlier)
    except NotFound as error:
        raise BadConfig(
            f"{what}: there is no such run or round, or its weights aren't kept any more (they are for 90 days).",
            "Name a run of `shoal runs`, as RUN or RUN@ROUND.",
        ) from error
    reason = _obstacle(earlier, settings, data, manifest)
    if reason is not None:
        raise BadConfig(
            f"{what}: the run can't be gone on from: {reason}.", "Use the same recipe, network and columns."
        )
    return _inherited(earlier, data, weights, initial, manifest, settings)


def _is_finished(artifacts: ObjectStore, run_id: str) -> bool:
    last = last_round(artifacts, run_id)
    return last > 0 and read_round(artifacts, run_id, last).finished


def _obstacle(earlier: TrainingSettings, settings: TrainingSettings, data: Manifest, manifest: Manifest) -> str | None:
    """What keeps a run's weights from meaning anything in another run."""
    reason = _difference(earlier, settings) or _layout_difference(data, manifest, settings)
    if reason is None and settings.recipe == "network":
        reason = _meanings_difference(data.spec, manifest.spec)
    return reason


def _inherited(
    earlier: TrainingSettings,
    data: Manifest,
    weights: Checkpoint,
    initial: Checkpoint,
    manifest: Manifest,
    settings: TrainingSettings,
) -> Inherited:
    matches = _matches(data.spec, manifest.spec)
    parameters, anew = _taken(weights.parameters, initial.parameters, matches)
    if manifest.spec.target.task == "regression" and f"{OUTPUT}.weight" in parameters:
        parameters |= _rescaled(parameters, earlier, settings)
    buffers, _ = _taken(weights.buffers, initial.buffers, {})
    note = f"Training goes on from round {weights.round} of run {earlier.run_id!r}"
    note += f"; {', '.join(anew)} begin anew." if anew else "."
    return Inherited(replace(initial, parameters=parameters, buffers=buffers), earlier.run_id, note)


def _best(artifacts: ObjectStore, settings: TrainingSettings) -> Checkpoint:
    last = last_round(artifacts, settings.run_id)
    if last == 0:
        raise NotFound(f"Run {settings.run_id!r} has no round.", "Train anew.")
    return read_served(artifacts, settings, read_round(artifacts, settings.run_id, last).best_round)


def _difference(earlier: TrainingSettings, settings: TrainingSettings) -> str | None:
    """What keeps two networks from being the same."""
    if earlier.task != settings.task:
        return f"its task was {earlier.task}"
    if earlier.recipe != settings.recipe:
        return f"its recipe was {earlier.recipe}"
    if earlier.recipe_config != settings.recipe_config:
        changed = sorted(
            name
            for name in earlier.recipe_config.keys() | settings.recipe_config.keys()
            if earlier.recipe_config.get(name) != settings.recipe_config.get(name)
        )
        return f"its network had other settings ({', '.join(changed)})"
    if earlier.transfer is not None and settings.transfer is not None:
        if earlier.transfer.digest != settings.transfer.digest:
            return f"its backbone was {earlier.transfer.backbone}@{earlier.transfer.version}"
        if earlier.transfer.blocks != settings.transfer.blocks:
            return f"it fine-tuned {earlier.transfer.blocks} blocks"
    return None


def _meanings_difference(before: PreprocessingSpec, after: PreprocessingSpec) -> str | None:
    """What places mean differently, in a user's own network, of which nobody knows which weights stand for which."""
    if before.target.classes != after.target.classes:
        return "its classes were others, and the network is the user's own"
    if before.table != after.table or before.sequence != after.sequence:
        return "its categories or words were others, and the network is the user's own"
    return None


def _layout_difference(before: Manifest, after: Manifest, settings: TrainingSettings) -> str | None:
    """What the inputs differ in, beyond what can be matched by name."""
    embedded = int(settings.recipe_config.get("embedding_above", _ONE_HOT_ALWAYS))
    old, new = _layout(before, embedded), _layout(after, embedded)
    differing = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    return f"the data differ in their {', '.join(differing)}" if differing else None


def _layout(manifest: Manifest, embedding_above: int) -> dict[str, Any]:
    """What the places of a network's inputs mean; embedded columns without their values, which are matched by name."""
    spec = manifest.spec
    signature = signature_of(manifest)
    layout: dict[str, Any] = {"images": spec.image.model_dump() if spec.image else None}
    if spec.sequence is not None:
        layout["windows"] = spec.sequence.model_dump(exclude={"stride", "horizon", "ignored"})
        layout["missing values"] = signature.sequence.missing if signature.sequence else None
    if spec.table is not None:
        layout["numbers"] = spec.table.number_names
        layout["missing values"] = signature.numbers.missing if signature.numbers else None
        layout["categories"] = [
            (column.name, column.buckets, None if column.cardinality > embedding_above else column.categories)
            for column in spec.table.categories
        ]
        layout["texts"] = [column.model_dump(exclude={"vocabulary", "length"}) for column in spec.table.texts]
    return layout


def _matches(before: PreprocessingSpec, after: PreprocessingSpec) -> dict[str, tuple[int, NDArray[np.int64]]]:
    """Parameter -> its axis that stands for words, categories or classes, and the old place of each new one."""
    found: dict[str, tuple[int, NDArray[np.int64]]] = {}
    if before.table is not None and after.table is not None:
        for index, (old, new) in enumerate(zip(before.table.categories, after.table.categories, strict=True)):
            places = _places(old.categories, new.categories, 1, new.buckets)
            found[f"categories{index}.table"] = (0, places)
        for index, (was, text) in enumerate(zip(before.table.texts, after.table.texts, strict=True)):
            places = _places(was.vocabulary, text.vocabulary, 2, text.buckets)
            found[f"text{index}.tokens.table"] = (0, places)
    if after.target.task in ("classification", "multilabel"):
        classes = _places(before.target.classes, after.target.classes, 0, 0)
        found[f"{OUTPUT}.weight"] = (1, classes)
        found[f"{OUTPUT}.bias"] = (0, classes)
    return found


def _places(before: Sequence[str], after: Sequence[str], fixed: int, buckets: int) -> NDArray[np.int64]:
    """Old places of the new rows: `fixed` ones in front stay, then come names, then hash buckets, which stay too."""
    old = {name: fixed + index for index, name in enumerate(before)}
    named = [old.get(name, _NEW) for name in after]
    hashed = range(fixed + len(before), fixed + len(before) + buckets)
    return np.array([*range(fixed), *named, *hashed], np.int64)


def _taken(
    old: Tensors, fresh: Tensors, matches: Mapping[str, tuple[int, NDArray[np.int64]]]
) -> tuple[Tensors, list[str]]:
    """Old values where they mean the same, fresh ones elsewhere; and the names of what is all fresh."""
    taken: Tensors = {}
    anew: list[str] = []
    for name, values in fresh.items():
        before = old.get(name)
        if before is not None and name in matches:
            axis, places = matches[name]
            fits = np.delete(before.shape, axis).tolist() == np.delete(values.shape, axis).tolist()
            taken[name] = _matched(before, values, axis, places) if fits else values
            anew += [] if fits else [name]
        elif before is not None and before.shape == values.shape:
            taken[name] = before
        else:
            taken[name] = values
            anew.append(name)
    return taken, anew


def _matched(old: NDArray[Any], fresh: NDArray[Any], axis: int, places: NDArray[np.int64]) -> NDArray[Any]:
    """Along an axis: the old values of what was there, fresh ones for what is new."""
    known = places != _NEW
    taken = np.moveaxis(fresh.copy(), axis, 0)
    taken[known] = np.moveaxis(old, axis, 0)[places[known]]
    return np.ascontiguousarray(np.moveaxis(taken, 0, axis))


def _rescaled(parameters: Tensors, before: TrainingSettings, after: TrainingSettings) -> Tensors:
    """The last layer, so that its answers in the target's own units stay as they were."""
    weight, bias = (parameters[f"{OUTPUT}.{part}"].astype(np.float64) for part in ("weight", "bias"))
    ratio = before.target_std / after.target_std
    shift = (before.target_mean - after.target_mean) / after.target_std
    return {
        f"{OUTPUT}.weight": (weight * ratio).astype(np.float32),
        f"{OUTPUT}.bias": (bias * ratio + shift).astype(np.float32),
    }
