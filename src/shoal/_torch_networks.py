"""A PyTorch module as an ONNX file that Shoal trains: its weights unmerged, its Dropout kept, its parameters named."""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import inspect
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from shoal.convert.exporting import import_torch
from shoal.errors import BadRequest, ConversionFailed

OPSET = 18
TRAINABLE = "shoal.trainable"
"""The file's metadata with the names of its parameters; training/networks/reading.py reads it."""
_BATCH = 2  # a batch of one would be taken for a constant
_DROPOUTS = ("Dropout", "Dropout1d", "Dropout2d", "Dropout3d")


def export_module(module: Any, inputs: Sequence[Mapping[str, Any]]) -> bytes:  # noqa: ANN401 - a torch.nn.Module
    """Export a module for training: in evaluation mode but for its Dropout, with a free batch, not optimised.

    Args:
        module: The module, which is left as it was. One with a single argument is called with the dataset's first
            input, others with those that their arguments are called by.
        inputs: What the dataset gives: name, datatype and shape of each tensor.

    Raises:
        BadRequest: torch or onnxscript isn't installed, the module takes what the dataset doesn't give, or nothing of
            it is trained.
        ConversionFailed: PyTorch's exporter failed.
    """
    torch = import_torch()
    if importlib.util.find_spec("onnxscript") is None:
        raise BadRequest("PyTorch's exporter needs onnxscript.", "Install it beside torch: `pip install onnxscript`.")
    if not any(parameter.requires_grad for parameter in module.parameters()):
        raise BadRequest("No parameter of the module is trained.", "Set requires_grad on those that shall be.")
    chosen = _arguments(module, inputs)
    fresh = _for_training(module)
    examples = tuple(_example(torch, given) for given in chosen.values())
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            program = torch.onnx.export(
                fresh,
                examples,
                dynamo=True,
                optimize=False,
                external_data=False,
                input_names=list(chosen),
                dynamic_shapes=tuple({0: torch.export.Dim.DYNAMIC} for _ in examples),
                opset_version=OPSET,
                verbose=False,
            )
    except Exception as error:  # the exporter's errors have no common base
        text = " ".join(str(error).split())[:400]
        raise ConversionFailed(
            f"PyTorch can't export the module: {text}",
            "Its forward must take the dataset's tensors with any batch; see `shoal.network_inputs(DATASET)`.",
        ) from error
    model = program.model_proto
    for node in model.graph.node:
        node.ClearField("metadata_props")  # where the module's code lies on this machine
    model.metadata_props.add(key=TRAINABLE, value=json.dumps(_trainable(fresh, model)))
    return bytes(model.SerializeToString())


def _arguments(module: Any, inputs: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:  # noqa: ANN401
    """What the module is called with: argument -> what the dataset gives."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [
        name
        for name, parameter in inspect.signature(module.forward).parameters.items()
        if parameter.kind in kinds and parameter.default is inspect.Parameter.empty
    ]
    named = {str(given["name"]): given for given in inputs}
    if len(needed) <= 1:
        return {needed[0] if needed else "input": inputs[0]}
    unknown = [name for name in needed if name not in named]
    if unknown:
        raise BadRequest(
            f"The module's forward takes {unknown[0]!r}, which the dataset doesn't give.",
            f"Call its arguments {', '.join(named)}, or take one: {inputs[0]['name']}.",
        )
    return {name: named[name] for name in needed}


def _for_training(module: Any) -> Any:  # noqa: ANN401
    """A copy on the CPU in evaluation mode, whose Dropout layers drop: the exporter keeps what works."""
    try:
        fresh = copy.deepcopy(module).cpu()
    except Exception as error:  # a module may hold anything
        raise ConversionFailed(
            f"The module can't be copied: {error}", "Give one that `copy.deepcopy` takes."
        ) from error
    fresh.eval()
    for layer in fresh.modules():
        if type(layer).__name__ in _DROPOUTS:
            layer.train()
    return fresh


def _example(torch: Any, given: Mapping[str, Any]) -> Any:  # noqa: ANN401
    shape = (_BATCH, *given["shape"])
    if given["datatype"] == "INT64":
        return torch.ones(shape, dtype=torch.int64)
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def _trainable(module: Any, model: Any) -> list[str]:  # noqa: ANN401
    """The initialisers that are parameters; one that the module ties to others is one in the file, too."""
    there = {tensor.name for tensor in model.graph.initializer}
    by_tensor: dict[int, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        if name in there and parameter.requires_grad:
            by_tensor.setdefault(id(parameter), []).append(name)
    for first, *others in by_tensor.values():
        for other in others:
            _join(model.graph, first, other)
    return [names[0] for names in by_tensor.values()]


def _join(graph: Any, kept: str, other: str) -> None:  # noqa: ANN401
    """Read one initialiser wherever another one was read."""
    for node in graph.node:
        node.input[:] = [kept if name == other else name for name in node.input]
    place = next(place for place, tensor in enumerate(graph.initializer) if tensor.name == other)
    del graph.initializer[place]
