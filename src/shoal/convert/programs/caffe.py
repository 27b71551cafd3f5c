"""Caffe (.prototxt and .caffemodel) to ONNX, by caffe-onnx, beside OpenCV's own reader of Caffe."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import comparing
import cv2
import numpy as np
from comparing import Input, Refused, Request
from google.protobuf import text_format
from proto import caffe_upsample_pb2 as caffe_pb2
from src.caffe2onnx import Caffe2Onnx

OLD_OPSET = 9


def convert(request: Request) -> dict[str, Any]:
    """`source` is the .prototxt, `weights` the .caffemodel."""
    if request.weights is None:
        raise Refused("A Caffe model is two files.", "Name both: shoal convert NET.prototxt WEIGHTS.caffemodel.")
    net, weights = caffe_pb2.NetParameter(), caffe_pb2.NetParameter()
    text_format.Merge(request.source.read_text(), net)
    weights.ParseFromString(request.weights.read_bytes())
    with contextlib.redirect_stdout(io.StringIO()):  # it tells of every layer
        model = Caffe2Onnx(net, weights, request.source.stem).createOnnxModel()
    _check_opset(model)
    (entry,) = [value for value in model.graph.input if value.name not in {t.name for t in model.graph.initializer}]
    shape = tuple(dim.dim_value for dim in entry.type.tensor_type.shape.dim)
    samples = comparing.made_up([Input(entry.name, np.float32, shape)], request)
    # Caffe's networks take pixels less a mean, not numbers in 0..1.
    if request.samples is None:
        samples = [
            {name: (array * 255 - 110).astype(np.float32) for name, array in sample.items()} for sample in samples
        ]
    reader = cv2.dnn.readNetFromCaffe(str(request.source), str(request.weights))

    def answer(sample: Mapping[str, Any]) -> Sequence[Any]:
        reader.setInput(sample[entry.name], "")
        return [np.array(reader.forward())]

    facts = {"from": "Caffe", "by": f"caffe-onnx {version('caffe-onnx')}", "version": f"OpenCV {cv2.__version__}"}
    return comparing.finish(model, answer, samples, request, facts)


def _check_opset(model: Any) -> None:  # noqa: ANN401 - a ModelProto
    """The converter writes whatever set the installed onnx has; its nodes are of an old one."""
    for entry in model.opset_import:
        if entry.domain == "":
            entry.version = min(entry.version, OLD_OPSET)


if __name__ == "__main__":
    comparing.run(convert)
