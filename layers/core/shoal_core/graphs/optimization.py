"""Offline optimisation of a finished model by ONNX Runtime, and the measure of how faithful it stayed."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from shoal_core.errors import BadNetwork, FidelityLost
from shoal_core.graphs.builder import check
from shoal_core.graphs.inference import IR_VERSION

_STANDARD_DOMAINS = ("", "ai.onnx")


def optimize_offline(model: bytes) -> bytes:
    """Fold constants and fuse nodes ahead of time, with standard operators only, so that it runs anywhere.

    Args:
        model: One ONNX file.

    Returns:
        The optimised file: same inputs, outputs and metadata.

    Raises:
        BadNetwork: if ONNX Runtime can't load the model, or answers with operators of its own.
    """
    with tempfile.TemporaryDirectory(prefix="shoal-") as folder:
        target = Path(folder) / "optimized.onnx"
        options = _options()
        # BASIC keeps to ONNX's operators; higher levels fuse into ones that depend on this very machine.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(target)
        _load(model, options)
        optimized = onnx.load_from_string(target.read_bytes())
    foreign = [node for node in optimized.graph.node if node.domain not in _STANDARD_DOMAINS]
    if foreign:
        raise BadNetwork(f"Optimisation made operator {foreign[0].op_type!r} of domain {foreign[0].domain!r}.")

    source = onnx.load_from_string(model)
    # The runtime imports all domains that it knows and leaves its inferred shapes behind.
    del optimized.opset_import[:]
    optimized.opset_import.extend(item for item in source.opset_import if item.domain in _STANDARD_DOMAINS)
    del optimized.graph.value_info[:]
    del optimized.metadata_props[:]
    optimized.metadata_props.extend(source.metadata_props)
    optimized.producer_name, optimized.producer_version = source.producer_name, source.producer_version
    optimized.ir_version = min(source.ir_version, IR_VERSION)
    check(optimized)
    return bytes(optimized.SerializeToString(deterministic=True))


def largest_difference(a: bytes, b: bytes, inputs: Mapping[str, NDArray[Any]]) -> float:
    """The largest absolute difference between two models' outputs on the same inputs; infinite if one isn't a number.

    Raises:
        FidelityLost: if the outputs differ in name or shape.
        BadNetwork: if ONNX Runtime can't load a model.
    """
    first, second = (run_once(model, inputs) for model in (a, b))
    shapes = [{name: array.shape for name, array in outputs.items()} for outputs in (first, second)]
    if shapes[0] != shapes[1]:
        raise FidelityLost(f"The models answer differently: {shapes[0]} and {shapes[1]}.")
    largest = 0.0
    for name, expected in first.items():
        if expected.size:
            difference = np.abs(expected.astype(np.float64) - second[name].astype(np.float64)).max()
            largest = max(largest, float(difference) if np.isfinite(difference) else float("inf"))
    return largest


def _options() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return options


def _load(model: bytes, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors have no other common base.
        raise BadNetwork(f"ONNX Runtime can't load the model: {error}") from error


def run_once(model: bytes, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """A model's outputs by name, for inputs by name. Raises `BadNetwork` when it can't be loaded."""
    session = _load(model, _options())
    names = [output.name for output in session.get_outputs()]
    feeds = {value.name: inputs[value.name] for value in session.get_inputs()}
    return dict(zip(names, session.run(names, feeds), strict=True))
