"""Which recipe a dataset gets, what it needs, and how long it may take: measured, for every recipe."""

from __future__ import annotations

import math

from shoal_core.data.config import IMAGE_RECIPES, TEXT_RECIPES
from shoal_core.data.config_types import Recipe
from shoal_core.data.manifest import Manifest
from shoal_core.data.spec import PreprocessingSpec
from shoal_core.errors import BadConfig

# Samples to see in a whole run: enough for small data to converge, and few seconds of work; big data gets more.
_SAMPLES_TO_SEE: dict[Recipe, int] = {
    "cnn": 40_000,
    "crnn": 40_000,
    "fasttext": 100_000,
    "linear": 150_000,
    "mlp": 150_000,
    "resnet": 40_000,
    "rnn": 60_000,
    "text-cnn": 60_000,
    "transformer": 60_000,
    "vgg": 40_000,
}
_EPOCHS = (3, 100)
# A round must end well within Lambda's 900 s, also on a slow CPU: measured seconds of a step of 64 samples at one
# thread (of convolutions per 28x28 pixels; of networks over time per 64 steps, where texts know 20,000 ids), and what a
# round may take by that.
_STEP_SECONDS: dict[Recipe, float] = {
    "cnn": 0.1,
    "crnn": 0.04,
    "fasttext": 0.01,
    "linear": 0.002,
    "mlp": 0.002,
    "resnet": 0.15,
    "rnn": 0.03,
    "text-cnn": 0.02,
    "transformer": 0.045,
    "vgg": 0.15,
}
_ROUND_SECONDS = 120.0
_PIXELS, _STEPS, _IDS = 28 * 28, 64, 20_000
# Recipes that take as long for any data of one width.
_FLAT: frozenset[Recipe] = frozenset({"linear", "mlp"})


def suggest_recipe(manifest: Manifest) -> tuple[Recipe, str]:
    """The recipe for a dataset version, and why."""
    spec = manifest.spec
    if spec.image is not None:
        return "cnn", "Convolutions see shapes wherever they lie in an image."
    if spec.sequence is not None:
        return "rnn", "Recurrence reads the rows of a window in their order."
    if _only_texts(spec):
        return "fasttext", "The words of a text tell most about it, in the least time."
    if _has_texts(spec):
        return "mlp", "Numbers, categories and the words of the texts are learnt from together."
    return "mlp", "Two layers find what columns mean together; `linear` is for weights that can be read."


def require_recipe(recipe: Recipe, spec: PreprocessingSpec) -> None:
    """Raise `BadConfig` where a recipe can't take the data."""
    kind = "images" if spec.image else "sequences" if spec.sequence else "texts" if _has_texts(spec) else "a table"
    needs = None
    if recipe in IMAGE_RECIPES and spec.image is None:
        needs = "images"
    elif recipe in TEXT_RECIPES and not _has_texts(spec):
        needs = "texts"
    elif recipe in ("rnn", "transformer") and not (_has_texts(spec) or spec.sequence):
        needs = "texts or sequences"
    elif recipe == "crnn" and kind == "a table":
        needs = "texts, sequences or images"
    if needs is not None:
        what = "this dataset is a table" if kind == "a table" else f"this dataset holds {kind}"
        raise BadConfig(f"dataset.yaml: recipe: {recipe} needs {needs}; {what}.", "Use mlp or linear, or leave it out.")


def epochs_for(recipe: Recipe, samples: int) -> int:
    """How often a run sees every one of its training samples."""
    least, most = _EPOCHS
    return min(most, max(least, math.ceil(_SAMPLES_TO_SEE[recipe] / samples)))


def sample_seconds(recipe: Recipe, spec: PreprocessingSpec) -> float:
    """What a step takes per sample, at one thread of a slow CPU."""
    # Where there are texts, their embeddings take most of the time of a flat recipe.
    timed: Recipe = "fasttext" if recipe in _FLAT and _has_texts(spec) else recipe
    return _STEP_SECONDS[timed] * _size(timed, spec) / 64


def steps_in_round(recipe: Recipe, spec: PreprocessingSpec, local_batch_size: int) -> int:
    """The most steps that a worker can surely take in a round."""
    return max(1, int(_ROUND_SECONDS / (sample_seconds(recipe, spec) * local_batch_size)))


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


def _has_texts(spec: PreprocessingSpec) -> bool:
    return spec.table is not None and bool(spec.table.texts)


def _only_texts(spec: PreprocessingSpec) -> bool:
    table = spec.table
    return table is not None and bool(table.texts) and not (table.number_names or table.categories)
