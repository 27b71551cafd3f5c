"""The Open Inference Protocol over the models in memory: metadata, and `/infer`."""

from __future__ import annotations

from typing import Any

from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

from shoal_core.errors import BadRequest, NotFound
from shoal_core.serving.protocol import EXTENSIONS, TensorInfo, infer_answer, model_metadata, parse_infer
from shoal_core.serving.sessions import ModelCache, ServedModel


def server_metadata(version: str) -> dict[str, Any]:
    """The answer of `GET /v2`."""
    return {"name": "shoal", "version": version, "extensions": list(EXTENSIONS)}


def served(models: ModelCache, name: str, version: str | None = None) -> ServedModel:
    """The version asked for, or the one in production. Raises `NotFound`."""
    if version is None:
        return models.production(name)
    if not (version.isascii() and version.isdigit() and len(version) < 10):
        raise NotFound(f"Model {name!r} has no version {version[:40]!r}.", "Versions are whole numbers, such as 1.")
    return models.version(name, int(version))


def metadata(model: ServedModel) -> dict[str, Any]:
    """The answer of `GET /v2/models/{name}`, of one version."""
    return model_metadata(model.name, [model.version], _inputs(model), _outputs(model))


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
    request = parse_infer(body, header_length, _inputs(model), _outputs(model))
    names = [wanted.name for wanted in request.outputs]
    try:
        results = model.session.run(names, request.tensors)
    except InvalidArgument as error:
        raise BadRequest(f"Model {model.name!r} can't take the request's tensors: {error}.") from error
    return infer_answer(request, model.name, model.version, dict(zip(names, results, strict=True)))


def _inputs(model: ServedModel) -> list[TensorInfo]:
    return [TensorInfo.of(value) for value in model.session.get_inputs()]


def _outputs(model: ServedModel) -> list[TensorInfo]:
    return [TensorInfo.of(value) for value in model.session.get_outputs()]
