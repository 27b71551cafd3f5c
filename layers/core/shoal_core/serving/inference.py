"""The Open Inference Protocol over the models in memory: metadata, and `/infer`."""

from __future__ import annotations

from typing import Any

from shoal_core.errors import NotFound
from shoal_core.serving.protocol import EXTENSIONS, TensorInfo, infer_answer, model_metadata, parse_infer
from shoal_core.serving.sessions import REFUSALS, ModelCache, ServedModel, refusal


def server_metadata(version: str) -> dict[str, Any]:
    """The answer of `GET /v2`."""
    return {"name": "shoal", "version": version, "extensions": list(EXTENSIONS)}


def served(models: ModelCache, name: str, version: str | None = None) -> ServedModel:
    """The version asked for, by number or alias, or the one in production. Raises `NotFound`."""
    return models.production(name) if version is None else models.version(name, numbered(models, name, version))


def numbered(models: ModelCache, name: str, version: str) -> int:
    """The number of a version that is given as one, or as an alias. Raises `NotFound`."""
    if version.isascii() and version.isdigit() and len(version) < 10:
        return int(version)
    found = models.aliases(name).version_of(version)
    if found is None:
        raise NotFound(
            f"Model {name!r} has no version {version[:40]!r}.", "Versions are whole numbers, such as 1, or aliases."
        )
    return found


def metadata(model: ServedModel) -> dict[str, Any]:
    """The answer of `GET /v2/models/{name}`, of one version."""
    return model_metadata(model.name, [model.version], model_inputs(model), model_outputs(model))


def infer(model: ServedModel, body: bytes, header_length: str | None) -> tuple[bytes, int | None]:
    """Answer `POST /v2/models/{name}/infer`.

    Args:
        model: The version that serves.
        body: The request's body.
        header_length: Its header `Inference-Header-Content-Length`, or None.

    Returns:
        The answer's body, and the bytes of JSON before its binary tensors; None when it is JSON only.

    Raises:
        BadInput: The request isn't one that the model can answer.
    """
    request = parse_infer(body, header_length, model_inputs(model), model_outputs(model))
    names = [wanted.name for wanted in request.outputs]
    try:
        results = model.session.run(names, request.tensors)
    except REFUSALS as error:
        raise refusal(model, error) from error
    return infer_answer(request, model.name, model.version, dict(zip(names, results, strict=True)))


def model_inputs(model: ServedModel) -> tuple[TensorInfo, ...]:
    """A model's inputs, in order."""
    return model.tensors[0]


def model_outputs(model: ServedModel) -> tuple[TensorInfo, ...]:
    """A model's outputs, in order."""
    return model.tensors[1]
