"""A foreign network's file as nodes, weights and constants: checked by its structure, never run.

Runs in the trial's process (`trial`), since even parsing a hostile file may take any amount of memory.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, ValueInfoProto, numpy_helper, version_converter

from shoal_core.errors import BadModel, BadNetwork, TooLarge, UnsupportedOperator
from shoal_core.graphs.autodiff import OPSETS, constant_value
from shoal_core.graphs.rules.registry import REFUSED, supported_operators
from shoal_core.importing.checking import check_structure
from shoal_core.importing.limits import Limits
from shoal_core.training.networks.config import LIMITS

TRAINABLE = "shoal.trainable"
"""Metadata of a file: a JSON list of the names of the tensors to train. `shoal.train` writes it for PyTorch modules."""
_STANDARD = ("", "ai.onnx")
_TF2ONNX = "tf2onnx"
_TF2ONNX_LEAVES = (
    "tf2onnx leaves out biases that are 0, and folds BatchNormalization into what is before it: what isn't in the file "
    "isn't trained; `shoal.train` in Python keeps the biases."
)
_CONVERTED_TO = 21


@dataclass(frozen=True)
class Foreign:
    """A network as its file has it.

    Attributes:
        nodes: In order; `Constant` nodes left out.
        weights: float32 initialisers, in order: what may be trained.
        constants: Other initialisers, and the values of `Constant` nodes.
        inputs: What it takes.
        outputs: What it answers.
        opset: Version of the standard operator set.
        told: Names of the tensors to train, as the file's maker told; None where nothing is told.
        notes: What was done to read it.
    """

    nodes: tuple[NodeProto, ...]
    weights: Mapping[str, NDArray[Any]]
    constants: Mapping[str, NDArray[Any]]
    inputs: tuple[ValueInfoProto, ...]
    outputs: tuple[ValueInfoProto, ...]
    opset: int
    told: tuple[str, ...] | None
    notes: tuple[str, ...]

    def towards(self, output: str) -> Foreign:
        """Only what an output depends on."""
        wanted = {output}
        nodes = []
        for node in reversed(self.nodes):
            if wanted.intersection(node.output):
                nodes.append(node)
                wanted.update(name for name in node.input if name)
        return replace(
            self,
            nodes=tuple(reversed(nodes)),
            weights={name: value for name, value in self.weights.items() if name in wanted},
            constants={name: value for name, value in self.constants.items() if name in wanted},
            inputs=tuple(value for value in self.inputs if value.name in wanted),
        )


def read_network(data: bytes, limits: Limits = LIMITS) -> Foreign:
    """Check a file and take it apart.

    Args:
        data: One ONNX file.
        limits: What is allowed.

    Raises:
        BadNetwork: Not ONNX, not standard operators only, an operator set that can't be converted.
        UnsupportedOperator: Control flow, sequences, random numbers: what no gradient leads through.
        TooLarge: Over a limit.
    """
    if len(data) > limits.model_bytes:
        raise TooLarge(
            f"The network has {len(data):,} bytes; {limits.model_bytes:,} are allowed.", "Train a smaller network."
        )
    try:
        structure = check_structure(data, limits, declared=False)
    except TooLarge as error:
        raise TooLarge(error.reason.replace("The model", "The network"), "Train a smaller network.") from error
    except BadModel as error:
        raise BadNetwork(error.reason.replace("The model", "The network"), error.fix) from error
    model = onnx.load_model_from_string(data)
    _require_texts(model.graph)
    _require_plain(model.graph.node)
    told = _told(model)
    del model.graph.value_info[:]  # JAX's exporter writes wrong ones, and all are inferred anew
    model, notes = _of_a_known_opset(model)
    if structure.producer.startswith(_TF2ONNX):
        notes = (*notes, _TF2ONNX_LEAVES)
    graph = model.graph
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    weights = {
        tensor.name: arrays[tensor.name] for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT
    }
    constants = {name: value for name, value in arrays.items() if name not in weights}
    constants |= {node.output[0]: constant_value(node) for node in graph.node if node.op_type == "Constant"}
    return Foreign(
        nodes=tuple(node for node in graph.node if node.op_type != "Constant"),
        weights=weights,
        constants=constants,
        # Files of IR version 3 list initialisers among the inputs.
        inputs=tuple(value for value in graph.input if value.name not in arrays),
        outputs=tuple(graph.output),
        opset=next(item.version for item in model.opset_import if item.domain in _STANDARD),
        told=told,
        notes=notes,
    )


def _require_texts(graph: onnx.GraphProto) -> None:
    """Refuse names that aren't UTF-8, which protobuf gives as bytes."""
    for entry in (*graph.node, *graph.initializer, *graph.input, *graph.output):
        names = [entry.name, *getattr(entry, "input", ()), *getattr(entry, "output", ())]
        if any(isinstance(name, bytes) for name in names):
            raise BadNetwork("A name in the network isn't UTF-8 text.", "Export it again; the file is damaged.")


def _require_plain(nodes: Sequence[NodeProto]) -> None:
    for node in nodes:
        why = REFUSED.get(node.op_type)
        if why is None and any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
            why = "has a graph of its own"
        if why is None and node.domain not in _STANDARD:
            why = f"is of domain {node.domain!r}, which isn't for training"
        if why is not None:
            raise UnsupportedOperator(
                f"Operator {node.op_type} (node {(node.name or node.output[0])[:100]!r}) {why}.",
                f"Use only these operators: {', '.join(supported_operators())}.",
            )


def _told(model: onnx.ModelProto) -> tuple[str, ...] | None:
    text = next((entry.value for entry in model.metadata_props if entry.key == TRAINABLE), None)
    if text is None:
        return None
    try:
        names = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadNetwork(f"The file's metadata {TRAINABLE!r} isn't JSON: {error}.", "Write a list of names.") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise BadNetwork(f"The file's metadata {TRAINABLE!r} isn't a list of names.", "Write a list of names.")
    return tuple(names)


def _of_a_known_opset(model: onnx.ModelProto) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    version = next((item.version for item in model.opset_import if item.domain in _STANDARD), 0)
    if version in OPSETS:
        return model, ()
    try:
        converted = version_converter.convert_version(model, _CONVERTED_TO)
    except (RuntimeError, ValueError) as error:  # the converter's errors have no other common base
        text = " ".join(str(error).split())[:300]
        raise BadNetwork(
            f"The network uses operator set {version}, training knows {OPSETS[0]} to {OPSETS[-1]}, and it can't be "
            f"converted: {text}.",
            f"Export it with opset {OPSETS[-1]}.",
        ) from error
    return converted, (f"Operator set {version} was converted to {_CONVERTED_TO}.",)


def is_constant_valued(array: NDArray[Any]) -> bool:
    """Whether all of several elements are equal, as a fresh layer's ones and zeros are."""
    return array.size > 1 and bool(np.all(array == array.reshape(-1)[0]))
