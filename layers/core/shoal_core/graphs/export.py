"""The model that is served: one ONNX file from raw tensors to probabilities or values."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from shoal_core.data.config_types import Task
from shoal_core.errors import BadNetwork
from shoal_core.graphs.builder import PRODUCER, check, shape_of_value
from shoal_core.graphs.forward import BATCH, BUFFER, PARAMETER, SCORE
from shoal_core.graphs.inference import IR_VERSION

PROBABILITIES = "probabilities"
VALUE = "value"
ANOMALOUS = "anomalous"
TASK_PROPERTY = "shoal.task"
CLASSES_PROPERTY = "shoal.classes"
_EMBEDDED = (PARAMETER, BUFFER)


def export_model(
    forward_with_parameters: bytes,
    parameters: Mapping[str, NDArray[Any]],
    task: Task,
    classes: Sequence[str] | None = None,
    target_mean: float = 0.0,
    target_std: float = 1.0,
    buffers: Mapping[str, NDArray[Any]] | None = None,
    threshold: float = 0.0,
) -> bytes:
    """Put trained parameters into a network and make its output readable.

    Args:
        forward_with_parameters: The network with inputs `param.<name>` and `buffer.<name>`.
        parameters: float32, by name without the prefix.
        task: What the network answers.
        classes: Names of the classes in order, for classification and multilabel.
        target_mean: Regression: what standardised predictions are shifted by, in original units.
        target_std: Regression: what they are multiplied by first; 0 counts as 1, as in training.
        buffers: float32, by name without the prefix.
        threshold: Anomalies: the score above which a sample is called one.

    Returns:
        An ONNX file. Inputs: the raw tensors. Output: `probabilities` float32 [N, classes], `value` float32 [N] in
        original units, or `score` float32 [N] and `anomalous` bool [N]. Metadata: `shoal.task` and `shoal.classes`
        (JSON). The same arguments give the same bytes.

    Raises:
        BadNetwork: if the parameters, the buffers or the classes don't fit the network.
    """
    source = onnx.load_from_string(forward_with_parameters)
    graph = onnx.GraphProto(name="model")
    graph.input.extend(value for value in source.graph.input if not value.name.startswith(_EMBEDDED))
    graph.node.extend(_without_prefix(source.graph.node))
    graph.initializer.extend(source.graph.initializer)
    graph.initializer.extend(_initialisers(source, parameters, PARAMETER))
    graph.initializer.extend(_initialisers(source, buffers or {}, BUFFER))
    if task == "anomaly":
        _answer_score(graph, source.graph.output[0], threshold)
    elif task != "regression":
        _answer_probabilities(graph, source.graph.output[0], classes, task)
    else:
        _answer_value(graph, source.graph.output[0], target_mean, target_std or 1.0)

    model = helper.make_model(
        graph, opset_imports=list(source.opset_import), ir_version=IR_VERSION, producer_name=PRODUCER
    )
    properties: dict[str, str] = {TASK_PROPERTY: task}
    if task in ("classification", "multilabel"):
        properties[CLASSES_PROPERTY] = json.dumps(list(classes or ()), ensure_ascii=False, separators=(",", ":"))
    helper.set_model_props(model, properties)
    check(model)
    return bytes(model.SerializeToString(deterministic=True))


def _without_prefix(nodes: Iterable[onnx.NodeProto]) -> list[onnx.NodeProto]:
    renamed = []
    for node in nodes:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.input[:] = [name.removeprefix(PARAMETER).removeprefix(BUFFER) for name in node.input]
        renamed.append(copy)
    return renamed


def _initialisers(source: onnx.ModelProto, values: Mapping[str, NDArray[Any]], prefix: str) -> list[onnx.TensorProto]:
    expected = {
        value.name.removeprefix(prefix): shape_of_value(value)
        for value in source.graph.input
        if value.name.startswith(prefix)
    }
    unfit = sorted(expected.keys() ^ values.keys())
    unfit += [name for name in expected if name in values and values[name].shape != expected[name]]
    if unfit:
        kind = "Parameter" if prefix == PARAMETER else "Buffer"
        raise BadNetwork(
            f"{kind} {unfit[0]!r} is missing, unknown or of another shape than the network's.",
            "Export a checkpoint with the graph of its own run.",
        )
    return [numpy_helper.from_array(np.asarray(values[name], order="C"), name) for name in expected]


def _answer_probabilities(
    graph: onnx.GraphProto, logits: onnx.ValueInfoProto, classes: Sequence[str] | None, task: Task
) -> None:
    """Shares of one for classification; of several labels each has a probability of its own."""
    width = (shape_of_value(logits) or (0, 0))[1]
    if width != len(classes or ()):
        raise BadNetwork(f"The network answers {width} classes, but {len(classes or ())} names are given.")
    if task == "multilabel":
        node = helper.make_node("Sigmoid", [logits.name], [PROBABILITIES], name=PROBABILITIES)
    else:
        node = helper.make_node("Softmax", [logits.name], [PROBABILITIES], name=PROBABILITIES, axis=-1)
    graph.node.append(node)
    graph.output.append(helper.make_tensor_value_info(PROBABILITIES, TensorProto.FLOAT, [BATCH, width]))


def _answer_value(graph: onnx.GraphProto, prediction: onnx.ValueInfoProto, mean: float, std: float) -> None:
    constants: dict[str, NDArray[Any]] = {
        "target.mean": np.asarray(mean, dtype=np.float32),
        "target.std": np.asarray(std, dtype=np.float32),
        "target.axis": np.asarray([1], dtype=np.int64),
    }
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    steps = (
        ("Squeeze", [prediction.name, "target.axis"], "target.standardised"),
        ("Mul", ["target.standardised", "target.std"], "target.centred"),
        ("Add", ["target.centred", "target.mean"], VALUE),
    )
    graph.node.extend(helper.make_node(operator, inputs, [output], name=output) for operator, inputs, output in steps)
    graph.output.append(helper.make_tensor_value_info(VALUE, TensorProto.FLOAT, [BATCH]))


def _answer_score(graph: onnx.GraphProto, score: onnx.ValueInfoProto, threshold: float) -> None:
    """`score` and whether it is above the threshold. The network's own output of that name steps aside."""
    raw = "score.column"
    for node in graph.node:
        if score.name in node.output:
            node.name = raw
            node.output[:] = [raw if name == score.name else name for name in node.output]
    graph.initializer.append(numpy_helper.from_array(np.asarray(threshold, dtype=np.float32), "score.threshold"))
    graph.initializer.append(numpy_helper.from_array(np.asarray([1], dtype=np.int64), "score.axis"))
    graph.node.append(helper.make_node("Squeeze", [raw, "score.axis"], [SCORE], name=SCORE))
    graph.node.append(helper.make_node("Greater", [SCORE, "score.threshold"], [ANOMALOUS], name=ANOMALOUS))
    graph.output.append(helper.make_tensor_value_info(SCORE, TensorProto.FLOAT, [BATCH]))
    graph.output.append(helper.make_tensor_value_info(ANOMALOUS, TensorProto.BOOL, [BATCH]))
