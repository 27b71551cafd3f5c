"""Which recipe a dataset gets, what it needs, and how long it may take: measured, for every recipe."""

from __future__ import annotations

import math

from shoal_core.data.anomalies import NORMAL
from shoal_core.data.config import IMAGE_RECIPES, TEXT_RECIPES
from shoal_core.data.config_types import Optimizer, Recipe
from shoal_core.data.manifest import Manifest
from shoal_core.data.spec import PreprocessingSpec
from shoal_core.errors import BadConfig, BadDataset

# Samples to see in a whole run: enough for small data to converge, and few seconds of work; large data gets more.
_SAMPLES_TO_SEE: dict[Recipe, int] = {
    "autoencoder": 100_000,
    "cnn": 60_000,
    "crnn": 40_000,
    "fasttext": 100_000,
    "linear": 150_000,
    "mlp": 100_000,
    "network": 60_000,
    "resnet": 40_000,
    "rnn": 60_000,
    "text-cnn": 60_000,
    "transfer": 60_000,
    "transformer": 60_000,
    "vgg": 40_000,
}
_EPOCHS = (3, 100)
# Of sets above these sizes more is seen, by this power of how much larger they are: 60,000 images 9 times, 38,000 rows
# 26 times, a million rows 9 times. Texts are learnt by heart instead.
_SMALL_SETS: dict[Recipe, int] = {"cnn": 2_300, "mlp": 1_250, "resnet": 1_250, "vgg": 1_250}
_GROWTH = 2 / 3
DEFAULT_OPTIMIZER: Optimizer = "adam"
_LEARNING_RATES: dict[Optimizer, float] = {"adam": 2e-3, "adamw": 2e-3, "sgd": 5e-2, "lion": 3e-4}
# One layer can take larger steps, and has to: its weights travel as far as the answer does. So do embeddings.
_FLAT_LEARNING_RATES: dict[Recipe, dict[Optimizer, float]] = {
    "linear": {"adam": 2e-2, "adamw": 2e-2, "lion": 3e-3},
    "fasttext": {"adam": 4e-3, "adamw": 4e-3},
}
# Of networks on tables: the weight decay is 1 up to so many samples, and falls as one over them. Measured with 5,000
# samples, most of which are learnt by heart without it, and with 38,000.
_DECAYED_SAMPLES = 5_000
# A round must end well within Lambda's 900 s, also on a slow CPU: twice the seconds of a step of 64 samples at one
# thread, as `benchmarks.train --only recipes` measures them (of convolutions per 28x28 pixels; of networks over time
# per 64 steps, where texts know 20,000 ids), and what a round may take by that. `autoencoder`, `network` and
# `transfer`, which it doesn't measure, are estimates.
_STEP_SECONDS: dict[Recipe, float] = {
    "autoencoder": 0.08,
    "cnn": 0.037,
    "crnn": 0.04,
    "fasttext": 0.0033,
    "linear": 0.0004,
    "mlp": 0.0013,
    "network": 0.01,
    "resnet": 0.16,
    "rnn": 0.053,
    "text-cnn": 0.03,
    "transfer": 0.002,
    "transformer": 0.23,
    "vgg": 0.046,
}
_ROUND_SECONDS = 120.0
_PIXELS, _STEPS, _IDS = 28 * 28, 64, 20_000
# Recipes that take as long for any data of one width.
_FLAT: frozenset[Recipe] = frozenset({"transfer", "linear", "mlp"})


def suggest_recipe(manifest: Manifest) -> tuple[Recipe, str]:
    """The recipe for a dataset version, and why."""
    spec = manifest.spec
    if spec.target.task == "anomaly":
        return "autoencoder", "What can't be rebuilt from a narrow code is unusual; no labels are needed for that."
    if spec.image is not None:
        return "cnn", "Convolutions see shapes wherever they lie in an image."
    if spec.sequence is not None:
        return "rnn", "Recurrence reads the rows of a window in their order."
    if _only_texts(spec):
        return "fasttext", "The words of a text tell most about it, in the least time."
    if _has_texts(spec):
        return "mlp", "Numbers, categories and the words of the texts are learnt from together."
    return "mlp", "Two layers find what columns mean together; `linear` is for weights that can be read."


def require_learnable(manifest: Manifest) -> None:
    """Raise `BadDataset` where nothing can be learnt: no training samples, or one class only."""
    name = f"Dataset {manifest.dataset!r} version {manifest.version}"
    if not manifest.train:
        raise BadDataset(f"{name} has no training samples.", "Upload more samples, or lower the shares under `split`.")
    if manifest.spec.target.task == "classification":
        present = [label for label, samples in manifest.statistics.classes.items() if samples]
        if len(present) < 2:
            only = f"only the class {present[0]!r}" if present else "no class"
            raise BadDataset(
                f"{name} has {only} among its training samples; telling classes apart needs at least two.",
                "Upload samples of another class too: one folder per class, or another value in the target column.",
            )
    if manifest.spec.target.task == "anomaly" and manifest.statistics.classes.get(NORMAL) == 0:
        raise BadDataset(
            f"{name} has only known anomalies among its training samples.", "Upload samples that are normal."
        )
    if manifest.spec.target.task == "multilabel" and not any(manifest.statistics.classes.values()):
        raise BadDataset(f"{name} has no label among its training samples.", "Upload samples that have labels.")


def require_recipe(recipe: Recipe, spec: PreprocessingSpec) -> None:
    """Raise `BadConfig` where a recipe can't take the data."""
    if (recipe == "autoencoder") != (spec.target.task == "anomaly"):
        raise BadConfig(
            f"dataset.yaml: recipe: {recipe} isn't for {spec.target.task}, which this dataset version is made for.",
            "Upload the data again with `recipe: autoencoder`, and no other task than anomaly."
            if recipe == "autoencoder"
            else "Use autoencoder, or upload the data again with another task.",
        )
    kind = "images" if spec.image else "sequences" if spec.sequence else "texts" if _has_texts(spec) else "a table"
    needs = None
    if recipe in IMAGE_RECIPES and spec.image is None:
        needs = "images"
    elif recipe in TEXT_RECIPES and not _has_texts(spec):
        needs = "texts"
    elif recipe == "transfer" and not (spec.image or _has_texts(spec)):
        needs = "images or texts"
    elif recipe in ("rnn", "transformer") and not (_has_texts(spec) or spec.sequence):
        needs = "texts or sequences"
    elif recipe == "crnn" and kind == "a table":
        needs = "texts, sequences or images"
    if needs is not None:
        what = "this dataset is a table" if kind == "a table" else f"this dataset holds {kind}"
        raise BadConfig(f"dataset.yaml: recipe: {recipe} needs {needs}; {what}.", "Use mlp or linear, or leave it out.")


def epochs_for(recipe: Recipe, samples: int) -> int:
    """How often a run sees every one of its training samples: larger sets less often, though more of them is seen."""
    least, most = _EPOCHS
    more: float = max(1.0, samples / _SMALL_SETS.get(recipe, samples)) ** _GROWTH
    return min(most, max(least, math.ceil(more * _SAMPLES_TO_SEE[recipe] / samples)))


def optimizer_for(recipe: Recipe, spec: PreprocessingSpec) -> Optimizer:
    """The optimizer of a recipe: for networks on tables the one with a decay of its own."""
    return "adamw" if _is_decayed(recipe, spec) else DEFAULT_OPTIMIZER


def weight_decay_for(recipe: Recipe, spec: PreprocessingSpec, optimizer: Optimizer, samples: int) -> float | None:
    """The weight decay for a number of training samples; None where the optimizer's own is right."""
    if optimizer != "adamw" or not _is_decayed(recipe, spec):
        return None
    return round(min(1.0, _DECAYED_SAMPLES / samples), 4)


def learning_rate_for(recipe: Recipe, optimizer: Optimizer) -> float:
    """The peak learning rate of a recipe with an optimizer."""
    return _FLAT_LEARNING_RATES.get(recipe, {}).get(optimizer, _LEARNING_RATES[optimizer])


def batch_size_for(samples: int) -> int:
    """Small data needs small batches, or an epoch has too few steps."""
    return next(size for least, size in ((1024, 64), (256, 32), (64, 16), (0, 8)) if samples >= least)


def sample_seconds(recipe: Recipe, spec: PreprocessingSpec) -> float:
    """What a step takes per sample, at one thread of a slow CPU."""
    # Where there are texts, their embeddings take most of the time of a flat recipe.
    flat = recipe in _FLAT and recipe != "transfer"
    timed: Recipe = "fasttext" if flat and _has_texts(spec) else recipe
    if recipe == "autoencoder" and spec.table is not None:
        timed = "mlp"
    return _STEP_SECONDS[timed] * _size(timed, spec) / 64


def steps_in_round(recipe: Recipe, spec: PreprocessingSpec, local_batch_size: int, more_seconds: float = 0.0) -> int:
    """The most steps that a worker can surely take in a round; `more_seconds` are what else a sample takes."""
    return max(1, int(_ROUND_SECONDS / ((sample_seconds(recipe, spec) + more_seconds) * local_batch_size)))


def _size(recipe: Recipe, spec: PreprocessingSpec) -> float:
    """How large a sample is, measured against those of `_STEP_SECONDS`."""
    if recipe in _FLAT:
        return 1.0
    if spec.image is not None:
        return spec.image.height * spec.image.width / _PIXELS
    if spec.sequence is not None:
        return max(1.0, spec.sequence.window / _STEPS)
    texts = spec.table.texts if spec.table else ()
    # The optimizer renews every row of a table of embeddings in every step.
    return max(1.0, sum(text.length for text in texts) / _STEPS, sum(text.cardinality for text in texts) / _IDS)


def _is_decayed(recipe: Recipe, spec: PreprocessingSpec) -> bool:
    return recipe == "mlp" and spec.table is not None and not _has_texts(spec)


def _has_texts(spec: PreprocessingSpec) -> bool:
    return spec.table is not None and bool(spec.table.texts)


def _only_texts(spec: PreprocessingSpec) -> bool:
    table = spec.table
    return table is not None and bool(table.texts) and not (table.number_names or table.categories)
