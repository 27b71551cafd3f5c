"""PyTorch's own files to ONNX: an exported program (.pt2) or TorchScript (.pt, .pth), by PyTorch's exporter."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import comparing
import onnx
import torch
from comparing import OPSET, Input, Refused, Request

DYNAMO_OPSET = 18  # the oldest that the newer exporter writes
_NEEDS_CODE = (
    "Weights alone don't say what to do with them: call `shoal.export(module, example)` where the module is made, or "
    "save the module with torch.export.save (.pt2)."
)
_ONLY_WEIGHTS = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
"""Set, torch.load unpickles nothing but tensors, even where torch.export.load asks it to, as for example inputs."""


def convert(request: Request) -> dict[str, Any]:
    """`source` is a .pt2, or TorchScript with `--input SHAPE` for each of its inputs."""
    if request.source.suffix.lower() == ".pt2":
        return _program(request)
    if not zipfile.is_zipfile(request.source) or not _is_script(request):
        raise Refused(f"{request.source.name} holds weights or a pickled module.", _NEEDS_CODE)
    return _script(request)


def _is_script(request: Request) -> bool:
    """TorchScript keeps code beside its constants; what torch.save wrote has none."""
    with zipfile.ZipFile(request.source) as archive:
        return any("/code/" in name for name in archive.namelist())


def _program(request: Request) -> dict[str, Any]:
    os.environ[_ONLY_WEIGHTS] = "0" if request.trust else "1"
    try:
        program = torch.export.load(request.source)
    except pickle.UnpicklingError as error:
        raise Refused(
            f"{request.source.name} holds a pickle of more than tensors, which loading would execute.",
            "If you made it, or trust who did, add --trust.",
        ) from error
    kept = program.example_inputs
    args = list(kept[0]) if kept else []
    if not args or (kept and kept[1]):
        raise Refused(f"{request.source.name} has no positional example inputs.", _NEEDS_CODE)
    target = request.output.with_suffix(".torch")
    torch.onnx.export(program, f=target, dynamo=True, external_data=False, opset_version=DYNAMO_OPSET, verbose=False)
    model = onnx.load(target)
    target.unlink()
    module = program.module()
    names = [value.name for value in model.graph.input]
    inputs = [
        Input(name, array.detach().numpy().dtype, tuple(array.shape)) for name, array in zip(names, args, strict=True)
    ]
    return _finished(model, module, inputs, request)


def _script(request: Request) -> dict[str, Any]:
    if not request.shapes:
        raise Refused("TorchScript doesn't tell the shape of its input.", "Add it: --input 1x3x224x224.")
    module = torch.jit.load(request.source, map_location="cpu").eval()
    shapes = list(request.shapes.values())
    names = [name or "input" for name in request.shapes]
    args = tuple(torch.rand(shape) for shape in shapes)
    target = request.output.with_suffix(".torch")
    free = {name: {0: "N"} for name in names}
    torch.onnx.export(
        module, args, target, dynamo=False, opset_version=OPSET, input_names=names, dynamic_axes=free, verbose=False
    )
    model = onnx.load(target)
    target.unlink()
    inputs = [Input(name, "float32", tuple(shape)) for name, shape in zip(names, shapes, strict=True)]
    return _finished(model, module, inputs, request)


def _finished(model: Any, module: Any, inputs: Sequence[Input], request: Request) -> dict[str, Any]:  # noqa: ANN401
    def answer(sample: Mapping[str, Any]) -> Sequence[Any]:
        with torch.no_grad():
            answers = module(*(torch.from_numpy(sample[entry.name]) for entry in inputs))
        found = answers if isinstance(answers, tuple | list) else [answers]
        return [array.numpy() for array in found]

    facts = {"from": "PyTorch", "by": "torch.onnx", "version": torch.__version__}
    return comparing.finish(model, answer, comparing.made_up(inputs, request), request, facts)


if __name__ == "__main__":
    comparing.run(convert)
