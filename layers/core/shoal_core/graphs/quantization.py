"""Models in 8-bit integers, by ONNX Runtime's own quantiser, in standard operators only.

Static: QDQ, weights per channel, activations calibrated on real samples. Dynamic: weights, and activations as they
come. Only the operators that cost time are quantised; what turns raw input into features stays in float32: its ranges
(pixels, unscaled numbers) are far wider than those of a layer.

Source: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
"""

from __future__ import annotations

import logging
import platform
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray

from shoal_core.errors import BadNetwork
from shoal_core.graphs.builder import check
from shoal_core.graphs.inference import IR_VERSION

STATIC_OPERATORS = ("Conv", "Gemm", "MatMul", "Relu", "MaxPool")
"""Quantised with calibrated activations; Relu and MaxPool so that integers flow from layer to layer."""
DYNAMIC_OPERATORS = ("Gemm", "MatMul")
"""Quantised by weight alone; Conv is slower that way."""

Batches = Iterable[Mapping[str, NDArray[Any]]]


class _Reader:
    """Calibration batches as ONNX Runtime asks for them: the next one, or None."""

    def __init__(self, batches: Batches) -> None:
        self._batches: Iterator[Mapping[str, NDArray[Any]]] = iter(batches)

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        batch = next(self._batches, None)
        return None if batch is None else dict(batch)


def needs_reduced_range(machine: str | None = None) -> bool:
    """Whether weights must keep to 7 bits.

    Without VNNI, x86 adds pairs of products in 16 bits, which overflow silently with 8-bit weights. Nothing promises
    that the machine that serves has it, so all of x86 counts. ARM's dot products add in 32 bits.
    """
    return (machine or platform.machine()).lower() in ("x86_64", "amd64", "i386", "i686")


def quantize_static(model: bytes, batches: Batches, *, reduce_range: bool) -> bytes:
    """Weights and activations in int8.

    Args:
        model: One ONNX file in float32.
        batches: Inputs to calibrate with: real samples, by input name.
        reduce_range: Keep weights to 7 bits.

    Raises:
        BadNetwork: The model can't be quantised, or has nothing that would be.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    CalibrationDataReader.register(_Reader)

    def write(target: Path, source: onnx.ModelProto) -> None:
        quantize_static(
            source,
            str(target),
            _Reader(batches),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(STATIC_OPERATORS),
            per_channel=True,
            reduce_range=reduce_range,
            # Signed ones, ONNX Runtime itself turns into unsigned ones on x86, and some graphs don't load after that.
            activation_type=QuantType.QUInt8,
        )

    return _quantized(model, write, "QuantizeLinear")


def quantize_dynamic(model: bytes, *, reduce_range: bool) -> bytes:
    """Weights in int8, activations quantised as they come. Raises as `quantize_static` does."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    def write(target: Path, source: onnx.ModelProto) -> None:
        quantize_dynamic(
            source,
            str(target),
            op_types_to_quantize=list(DYNAMIC_OPERATORS),
            per_channel=True,
            reduce_range=reduce_range,
            weight_type=QuantType.QInt8,
        )

    return _quantized(model, write, "DynamicQuantizeLinear")


def _quantized(model: bytes, write: Callable[[Path, onnx.ModelProto], None], sign: str) -> bytes:
    """Run a quantiser and make its answer as plain as the model was: one file, standard domain, same metadata."""
    source = onnx.load_from_string(model)
    # Inferred shapes of an optimised graph contradict those that the quantiser infers itself.
    del source.graph.value_info[:]
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # the quantiser advises a preprocessing step that training's export has done
    try:
        with tempfile.TemporaryDirectory(prefix="shoal-") as folder:
            target = Path(folder) / "quantized.onnx"
            # The quantiser changes the model that it is given.
            write(target, onnx.load_from_string(source.SerializeToString()))
            quantized = onnx.load(str(target))
    except Exception as error:  # its errors have no common base
        raise BadNetwork(f"The model can't be quantised: {str(error)[:300]}.") from error
    finally:
        root.setLevel(level)
    if not any(node.op_type == sign for node in quantized.graph.node):
        raise BadNetwork("The model has no operator that quantisation would speed up.")
    foreign = sorted({node.domain for node in quantized.graph.node} - {"", "ai.onnx"})
    if foreign:
        raise BadNetwork(f"Quantisation made operators of domain {foreign[0]!r}.")
    _tidy(quantized, source)
    return bytes(quantized.SerializeToString(deterministic=True))


def _tidy(quantized: onnx.ModelProto, source: onnx.ModelProto) -> None:
    standard = [item for item in quantized.opset_import if item.domain in ("", "ai.onnx")]
    del quantized.opset_import[:]
    quantized.opset_import.extend(standard)
    del quantized.graph.value_info[:]
    del quantized.metadata_props[:]
    quantized.metadata_props.extend(source.metadata_props)
    quantized.producer_name, quantized.producer_version = source.producer_name, source.producer_version
    quantized.ir_version = min(source.ir_version, IR_VERSION)
    check(quantized)
