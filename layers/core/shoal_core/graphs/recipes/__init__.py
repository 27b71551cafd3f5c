"""Recipes: each is one file that builds a forward graph from a typed config and a network signature."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from shoal_core.errors import BadConfig
from shoal_core.graphs.forward import ForwardGraph
from shoal_core.graphs.recipes import (
    autoencoder,
    cnn,
    crnn,
    fasttext,
    linear,
    mlp,
    resnet,
    rnn,
    text_cnn,
    transfer,
    transformer,
    vgg,
)
from shoal_core.graphs.signature import NetworkSignature

_Config = TypeVar("_Config", bound=BaseModel)


@dataclass(frozen=True)
class _Recipe:
    build: Callable[[Mapping[str, Any], NetworkSignature, int], ForwardGraph]
    default_config: Callable[[NetworkSignature, int], BaseModel]


def _made(
    config: type[_Config],
    build: Callable[[_Config, NetworkSignature, int], ForwardGraph],
    default: Callable[[NetworkSignature, int], _Config],
) -> _Recipe:
    return _Recipe(lambda values, signature, seed: build(config.model_validate(values), signature, seed), default)


_RECIPES: Mapping[str, _Recipe] = {
    "autoencoder": _made(autoencoder.AutoencoderConfig, autoencoder.build, autoencoder.default_config),
    "cnn": _made(cnn.CnnConfig, cnn.build, cnn.default_config),
    "crnn": _made(crnn.CrnnConfig, crnn.build, crnn.default_config),
    "fasttext": _made(fasttext.FasttextConfig, fasttext.build, fasttext.default_config),
    "linear": _made(linear.LinearConfig, linear.build, linear.default_config),
    "mlp": _made(mlp.MlpConfig, mlp.build, mlp.default_config),
    "resnet": _made(resnet.ResnetConfig, resnet.build, resnet.default_config),
    "rnn": _made(rnn.RnnConfig, rnn.build, rnn.default_config),
    "text-cnn": _made(text_cnn.TextCnnConfig, text_cnn.build, text_cnn.default_config),
    "transfer": _made(transfer.TransferConfig, transfer.build, transfer.default_config),
    "transformer": _made(transformer.TransformerConfig, transformer.build, transformer.default_config),
    "vgg": _made(vgg.VggConfig, vgg.build, vgg.default_config),
}


def recipe_names() -> tuple[str, ...]:
    """All recipes, sorted."""
    return tuple(sorted(_RECIPES))


def build_forward(recipe: str, config: Mapping[str, Any], signature: NetworkSignature, seed: int) -> ForwardGraph:
    """Build a recipe's network.

    Args:
        recipe: Its name.
        config: Its settings; what is left out takes the recipe's default.
        signature: What the network sees and answers.
        seed: Of the initial parameters; the same arguments give the same bytes.

    Raises:
        BadConfig: for an unknown recipe, a wrong setting or inputs that the recipe can't take.
    """
    return _checked(recipe, signature, lambda: _recipe(recipe).build(config, signature, seed))


def build_transfer(
    config: Mapping[str, Any], signature: NetworkSignature, seed: int, tuned: ForwardGraph | None, opset: int
) -> ForwardGraph:
    """Build the network of recipe `transfer` on a backbone. Arguments and errors as of `transfer.build`."""
    made = transfer.TransferConfig.model_validate
    return _checked("transfer", signature, lambda: transfer.build(made(config), signature, seed, tuned, opset))


def _checked(recipe: str, signature: NetworkSignature, build: Callable[[], ForwardGraph]) -> ForwardGraph:
    """What is built, or `BadConfig` naming the setting that is wrong."""
    try:
        return build()
    except ValidationError as error:
        first = error.errors()[0]
        setting = ".".join(str(part) for part in first["loc"]) or "network"
        known = ", ".join(sorted(default_config(recipe, signature, 1)))
        raise BadConfig(
            f"Setting {setting!r} of the network of recipe {recipe!r} is wrong: {first['msg']}.",
            f"Mend it under `network` in dataset.yaml; {recipe} takes: {known}.",
        ) from error


def default_config(recipe: str, signature: NetworkSignature, samples: int) -> dict[str, Any]:
    """A recipe's settings for a number of training samples, as JSON values.

    Raises:
        BadConfig: for an unknown recipe.
    """
    return _recipe(recipe).default_config(signature, samples).model_dump(mode="json")


def _recipe(name: str) -> _Recipe:
    if name not in _RECIPES:
        raise BadConfig(f"There is no recipe {name!r}.", f"Choose one of: {', '.join(recipe_names())}.")
    return _RECIPES[name]
