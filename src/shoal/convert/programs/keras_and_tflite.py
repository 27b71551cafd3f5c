"""Keras (.keras, .h5), TensorFlow SavedModel and TFLite to ONNX, by tf2onnx."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")


import comparing
import numpy as np
import onnx
from comparing import OPSET, Input, Refused, Request


def convert(request: Request) -> dict[str, Any]:
    """By what it is: a folder (SavedModel), .keras or .h5 (Keras), .tflite."""
    if request.source.is_dir():
        return _saved_model(request)
    if request.source.suffix.lower() == ".tflite":
        return _tflite(request)
    return _keras(request)


def _keras(request: Request) -> dict[str, Any]:
    import keras
    import tensorflow as tf
    import tf2onnx

    try:
        model = keras.saving.load_model(request.source, compile=False, safe_mode=not request.trust)
    except ValueError as error:
        if "safe_mode" not in str(error) and "unsafe" not in str(error):
            raise
        raise Refused(
            f"{request.source.name} holds code of its own (a Lambda layer), which loading would execute.",
            "If you made it, or trust who did, add --trust.",
        ) from error
    given = [request.shapes.get(tensor.name) or request.shapes.get("") for tensor in model.inputs]
    shapes = [
        [None, *(shape[1:] if shape else tensor.shape[1:])] for tensor, shape in zip(model.inputs, given, strict=True)
    ]
    signature = [
        tf.TensorSpec(shape, tensor.dtype, name=tensor.name) for shape, tensor in zip(shapes, model.inputs, strict=True)
    ]
    called = tf.function(lambda *tensors: model(list(tensors) if len(tensors) > 1 else tensors[0], training=False))
    found, _ = tf2onnx.convert.from_function(called, input_signature=signature, opset=OPSET)
    names = [value.name for value in found.graph.input]
    inputs = [
        Input(name, tf.as_dtype(spec.dtype).as_numpy_dtype, comparing.shape_for(request, name, spec.shape.as_list()))
        for name, spec in zip(names, signature, strict=True)
    ]

    def answer(sample: Mapping[str, Any]) -> Sequence[Any]:
        tensors = [tf.constant(sample[name]) for name in names]
        answers = model(tensors if len(tensors) > 1 else tensors[0], training=False)
        return [array.numpy() for array in tf.nest.flatten(answers)]

    return _finished(found, answer, inputs, request, "Keras", version("keras"))


def _saved_model(request: Request) -> dict[str, Any]:
    import tensorflow as tf

    loaded = tf.saved_model.load(str(request.source))
    signature = loaded.signatures.get("serving_default") or next(iter(loaded.signatures.values()), None)
    if signature is None:
        raise Refused(f"{request.source.name} has no signature.", "Save it with `model.export(PATH)`.")
    found = _command(request, "--saved-model")
    specs = {
        spec.name.partition(":")[0]: (name, spec) for name, spec in signature.structured_input_signature[1].items()
    }
    order = {value.name.partition(":")[0]: value.name for value in found.graph.input}
    by_name = {name: name for name, _ in specs.values()}
    inputs, origin = [], {}
    for short, name in order.items():
        own = specs.get(short) or specs.get(f"serving_default_{short}")
        key, spec = own if own else (short, signature.structured_input_signature[1][by_name[short]])
        origin[name] = key
        shape = comparing.shape_for(request, name, spec.shape.as_list())
        inputs.append(Input(name, spec.dtype.as_numpy_dtype, shape))

    def answer(sample: Mapping[str, Any]) -> Sequence[Any]:
        answers = signature(**{origin[name]: tf.constant(array) for name, array in sample.items()})
        names = [value.name.partition(":")[0] for value in found.graph.output]
        return [
            answers[name].numpy() if name in answers else list(answers.values())[index].numpy()
            for index, name in enumerate(names)
        ]

    return _finished(found, answer, inputs, request, "TensorFlow", version("tensorflow"))


def _tflite(request: Request) -> dict[str, Any]:
    import tensorflow as tf

    found = _command(request, "--tflite")
    interpreter = tf.lite.Interpreter(model_path=str(request.source))
    interpreter.allocate_tensors()
    own = interpreter.get_input_details()
    names = [value.name for value in found.graph.input]
    by_name = {entry["name"]: entry for entry in own}
    details = [by_name.get(name, own[index]) for index, name in enumerate(names)]
    inputs = [
        Input(name, entry["dtype"], tuple(int(size) for size in entry["shape"]))
        for name, entry in zip(names, details, strict=True)
    ]

    def answer(sample: Mapping[str, Any]) -> Sequence[Any]:
        for name, entry in zip(names, details, strict=True):
            interpreter.set_tensor(entry["index"], sample[name])
        interpreter.invoke()
        outputs = {entry["name"]: entry["index"] for entry in interpreter.get_output_details()}
        wanted = [value.name for value in found.graph.output]
        places = [outputs.get(name, list(outputs.values())[place]) for place, name in enumerate(wanted)]
        return [np.array(interpreter.get_tensor(index)) for index in places]

    return _finished(found, answer, inputs, request, "TFLite", version("tensorflow"))


def _command(request: Request, kind: str) -> Any:  # noqa: ANN401 - a ModelProto
    """What tf2onnx's own command makes of a SavedModel or a TFLite file."""
    target = request.output.with_suffix(".tf2onnx")
    command = [sys.executable, "-m", "tf2onnx.convert", kind, str(request.source), "--output", str(target)]
    try:
        ended = subprocess.run(
            [*command, "--opset", str(OPSET)], capture_output=True, text=True, check=False, cwd=request.output.parent
        )
        sys.stderr.write(ended.stderr)
        if ended.returncode:
            last = ended.stderr.strip().splitlines()[-1:] or ["no reason was told"]
            raise Refused(f"tf2onnx can't convert it: {last[0][:300]}", "See its output above.")
        return onnx.load(target)
    finally:
        target.unlink(missing_ok=True)


def _finished(
    model: Any,  # noqa: ANN401 - a ModelProto
    answer: comparing.Answer,
    inputs: Sequence[Input],
    request: Request,
    framework: str,
    release: str,
) -> dict[str, Any]:
    facts = {"from": framework, "by": f"tf2onnx {version('tf2onnx')}", "version": release}
    return comparing.finish(model, answer, comparing.made_up(inputs, request), request, facts)


if __name__ == "__main__":
    comparing.run(convert)
