"""What a search tries when nobody says what: recipes that fit the data, and around what they would train with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shoal_core.data.config import DatasetConfig
from shoal_core.data.config_types import Optimizer, Recipe
from shoal_core.data.manifest import Manifest
from shoal_core.data.spec import PreprocessingSpec
from shoal_core.errors import BadConfig
from shoal_core.training.recipes import (
    batch_size_for,
    learning_rate_for,
    optimizer_for,
    require_recipe,
    suggest_recipe,
    weight_decay_for,
)
from shoal_core.training.schemes import MAX_BATCH_SIZE
from shoal_core.training.tuning.space import Space, parse_space

# How far from the usual value: times and parts of it.
_RATE_SPAN, _DECAY_SPAN = 5.0, 10.0
_DECAYS: dict[Optimizer, tuple[float, float]] = {
    # Shrinking the weights apart from the gradient takes larger numbers than adding to it.
    "adamw": (1e-4, 1e-1),
    "lion": (1e-4, 1e-1),
    "adam": (1e-7, 1e-3),
    "sgd": (1e-6, 1e-2),
}
_SMOOTHING = (0.0, 0.1)
_LEAST_BATCH = 4
_LARGE_SIDE, _SMALL_SIDE = 24, 32
# From small to large: how wide and how deep.
_NETWORKS: Mapping[str, Mapping[str, Sequence[Any]]] = {
    "mlp": {"network.hidden": [[64], [64, 32], [128, 64], [256, 128], [128, 128, 128]]},
    "cnn": {"network.convolutions": [1, 2], "network.hidden": [64, 128, 256]},
    "resnet": {"network.blocks": [1, 2], "network.normalization": ["batch", "group"]},
    "vgg": {"network.convolutions": [1, 2], "network.hidden": [64, 128, 256]},
    "rnn": {"network.cell": ["gru", "lstm"], "network.units": [32, 64, 128], "network.layers": [1, 2]},
    "crnn": {"network.cell": ["gru", "lstm"], "network.units": [32, 64, 128]},
    "fasttext": {"network.width": [32, 64, 128], "network.hidden": [[], [64]]},
    "text-cnn": {"network.width": [32, 64, 128], "network.channels": [32, 64, 128]},
    "transformer": {"network.width": [32, 64], "network.layers": [1, 2], "network.feedforward": [64, 128, 256]},
}


def default_space(manifest: Manifest, config: DatasetConfig) -> Space:
    """The space for a dataset version.

    Learning rate, batch size and weight decay around those of the recipe, or those of dataset.yaml; the network's width
    and depth; how much is varied at training time. What dataset.yaml says of recipe, network or augmentation stays.

    Args:
        manifest: The dataset version.
        config: Its dataset.yaml.
    """
    document: dict[str, Any] = {
        "recipes": {recipe: _of_recipe(recipe, manifest, config) for recipe in fitting_recipes(manifest, config)},
        "training.batch_size": {"choice": _batch_sizes(manifest, config)},
    }
    usual_loss = config.training.loss in (None, "cross_entropy") and config.training.label_smoothing is None
    if manifest.spec.target.task == "classification" and usual_loss:
        document["training.label_smoothing"] = {"uniform": list(_SMOOTHING)}
    if config.augment == "auto" and manifest.spec.target.task != "anomaly" and not config.uses_backbone:
        document |= _augmentation(manifest.spec)
    return parse_space(document)


def fitting_recipes(manifest: Manifest, config: DatasetConfig) -> list[Recipe]:
    """What dataset.yaml says, or the recipes that suit the data and take about the time of the usual one."""
    if config.uses_backbone:
        return ["transfer"]
    if config.recipe is not None and config.recipe != "auto":
        return [config.recipe]
    usual, _ = suggest_recipe(manifest)
    spec = manifest.spec
    wanted: list[Recipe] = [usual]
    if spec.image is not None:
        side = min(spec.image.height, spec.image.width)
        large: list[Recipe] = ["vgg"] if side >= _LARGE_SIDE else []
        small: list[Recipe] = ["mlp"] if side <= _SMALL_SIDE else []
        wanted += ["resnet", *large, *small]
    elif spec.sequence is not None:
        wanted += ["crnn", "transformer", "mlp"]
    elif spec.table is not None and spec.table.texts:
        wanted += ["text-cnn", "mlp"]
    else:
        wanted += ["linear"]
    return [recipe for recipe in dict.fromkeys(wanted) if _fits(recipe, spec)]


def _fits(recipe: Recipe, spec: PreprocessingSpec) -> bool:
    try:
        require_recipe(recipe, spec)
    except BadConfig:
        return False
    return True


def _of_recipe(recipe: Recipe, manifest: Manifest, config: DatasetConfig) -> dict[str, Any]:
    training, samples = config.training, manifest.samples["train"]
    optimizer = training.optimizer or optimizer_for(recipe, manifest.spec)
    rates = _around(training.learning_rate or learning_rate_for(recipe, optimizer), _RATE_SPAN, most=10.0)
    usual = training.weight_decay or weight_decay_for(recipe, manifest.spec, optimizer, samples)
    decays = _around(usual, _DECAY_SPAN, most=1.0) if usual else {"log_uniform": list(_DECAYS[optimizer])}
    # What dataset.yaml says of a network is said of the one recipe that it names.
    network = {} if config.network else _NETWORKS.get(recipe, {})
    varied = {"training.learning_rate": rates, "training.weight_decay": decays}
    return varied | {name: {"choice": values} for name, values in network.items()}


def _around(usual: float, span: float, most: float) -> dict[str, Any]:
    return {"log_uniform": [float(f"{usual / span:.4g}"), float(f"{min(most, usual * span):.4g}")]}


def _batch_sizes(manifest: Manifest, config: DatasetConfig) -> list[int]:
    samples = manifest.samples["train"]
    usual = config.training.batch_size or batch_size_for(samples)
    sizes = (max(_LEAST_BATCH, usual // 2), usual, min(MAX_BATCH_SIZE, usual * 2))
    return sorted({min(samples, size) for size in sizes})


def _augmentation(spec: PreprocessingSpec) -> dict[str, Any]:
    if spec.image is not None:
        varied = ["auto", "none", {"shift": 0.08}] if spec.target.task == "classification" else ["auto", "none"]
        return {"augment": {"choice": varied}}
    if spec.sequence is not None:
        return {"augment.noise": {"uniform": [0.0, 0.1]}} if spec.sequence.numbers else {}
    if spec.table is None:
        return {}
    texts = {"augment.token_dropout": {"uniform": [0.0, 0.4]}} if spec.table.texts else {}
    numbers = {"augment.noise": {"uniform": [0.0, 0.1]}} if spec.table.number_names else {}
    return texts | numbers
