"""What a foreign model's file may hold, read from its structure alone: nothing of it is executed.

Runs in the trial's process (`trial`), since even parsing a hostile file may take any amount of memory.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, NodeProto, SparseTensorProto, TensorProto, ValueInfoProto

from shoal_core.errors import BadModel, TooLarge
from shoal_core.importing.limits import DOMAINS, Limits

_INLINE = "Inline them: `onnx.inliner.inline_local_functions(model)`."
_EMBED = "Save it as one file: `onnx.save(onnx.load(PATH), PATH, save_as_external_data=False)`."
# Where a flatbuffer tells what it is: https://flatbuffers.dev/internals/ ("file identification").
_OTHER_FORMAT = b"ORTM"
# Element types that numpy has no type of, in bits.
_BITS: Mapping[int, int] = {
    TensorProto.INT4: 4,
    TensorProto.UINT4: 4,
    TensorProto.FLOAT4E2M1: 4,
    TensorProto.STRING: 8,
    TensorProto.BFLOAT16: 16,
}


@dataclass(frozen=True)
class Structure:
    """What the structure tells.

    Attributes:
        ir_version: Of the file.
        opsets: Domain -> version, of those that are allowed.
        producer: Who wrote it, with the version.
        operators: Operator -> how often, subgraphs included; those of another domain than ONNX's own with it.
        parameters: Numbers in its initialisers.
        metadata: Its own key -> value texts.
    """

    ir_version: int
    opsets: dict[str, int]
    producer: str
    operators: dict[str, int]
    parameters: int
    metadata: dict[str, str]


def check_structure(data: bytes, limits: Limits, *, declared: bool = True) -> Structure:
    """Check a file without running it.

    Args:
        data: One ONNX file.
        limits: What is allowed.
        declared: Whether the shapes that it declares for tensors inside must be right; ONNX Runtime only warns of them,
            and whoever infers them anew needn't care.

    Raises:
        BadModel: Not ONNX, an operator, a version or a reference that isn't allowed; names it.
        TooLarge: Over a limit.
    """
    if data[4:8] == _OTHER_FORMAT:
        # Such a file may be ONNX as well, and then what is checked here isn't what ONNX Runtime would load.
        raise BadModel("The file is in ONNX Runtime's own format, not in ONNX.", "Upload the ONNX file it was made of.")
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # protobuf's, which onnx brings along, have no other common base
        raise BadModel(
            f"The file can't be read as ONNX: {str(error).rstrip('.')}.",
            "It is cut short, nested too deeply, or another format; convert it with `shoal convert`.",
        ) from error
    if not model.HasField("graph") or not model.graph.output:
        raise BadModel("The file holds no ONNX graph with outputs.", "Export the model again, or `shoal convert` it.")
    _check_versions(model, limits)
    if model.functions:
        raise BadModel(f"The model has functions of its own ({model.functions[0].name[:100]!r}).", _INLINE)
    if model.training_info:
        raise BadModel("The model carries training information.", "Export it for inference.")
    operators: Counter[str] = Counter()
    for graph, depth in _graphs(model.graph):
        if depth > limits.depth:
            raise BadModel(
                f"Subgraphs are nested deeper than {limits.depth} levels.", "Flatten the model's loops and branches."
            )
        _check_graph(graph, limits, operators)
    if not declared:
        del model.graph.value_info[:]
        data = model.SerializeToString()
    _check_onnx(data)
    return Structure(
        model.ir_version,
        # Domains that no operator may be of can be many, and aren't told.
        {item.domain or "ai.onnx": item.version for item in model.opset_import if item.domain in DOMAINS},
        f"{model.producer_name} {model.producer_version}".strip()[:100],
        dict(sorted(operators.items())),
        sum(math.prod(tensor.dims) for tensor in model.graph.initializer),
        {item.key[:100]: item.value[:1000] for item in list(model.metadata_props)[:20]},
    )


def _check_versions(model: onnx.ModelProto, limits: Limits) -> None:
    low, high = limits.ir_versions
    if not low <= model.ir_version <= high:
        raise BadModel(
            f"The model has IR version {model.ir_version}; {low} to {high} are supported.",
            f"Set `model.ir_version = {high}` where it uses nothing newer, or export it with another version of onnx.",
        )
    if not model.opset_import:
        raise BadModel("The model says no operator set.", "Export it again.")
    for entry in model.opset_import:
        # A file may import domains that it doesn't use: operators are what is refused, in _check_node.
        bounds = DOMAINS.get(entry.domain)
        if bounds is not None and not bounds[0] <= entry.version <= bounds[1]:
            raise BadModel(
                f"The model uses operator set {entry.domain or 'ai.onnx'} {entry.version}; "
                f"{bounds[0]} to {bounds[1]} are supported.",
                f"Export it with opset {bounds[1]}, or convert it with `onnx.version_converter.convert_version`.",
            )


def _graphs(top: GraphProto) -> Iterator[tuple[GraphProto, int]]:
    """The graph and all graphs within it, each with its depth."""
    waiting = [(top, 0)]
    while waiting:
        graph, depth = waiting.pop()
        yield graph, depth
        for node in graph.node:
            for attribute in node.attribute:
                waiting += [(inner, depth + 1) for inner in _graphs_of(attribute)]


def _graphs_of(attribute: AttributeProto) -> Iterable[GraphProto]:
    return [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]


def _check_graph(graph: GraphProto, limits: Limits, operators: Counter[str]) -> None:
    for node in graph.node:
        _check_node(node, limits, operators)
        if operators.total() > limits.nodes:
            raise TooLarge(f"The model has more than {limits.nodes:,} nodes.", "Serve a smaller one.")
    for tensor in graph.initializer:
        _check_tensor(tensor, f"Initialiser {tensor.name[:100]!r}", limits)
    for sparse in graph.sparse_initializer:
        _check_sparse(sparse, f"Sparse initialiser {sparse.values.name[:100]!r}", limits)
    for value in (*graph.input, *graph.output, *graph.value_info):
        _check_declared(value, limits)
    # Files of IR version 3 list initialisers among the inputs.
    inputs = {value.name for value in graph.input} - {tensor.name for tensor in graph.initializer}
    if len(inputs) > limits.values or len(graph.output) > limits.values:
        raise TooLarge(f"A graph has more than {limits.values:,} inputs or outputs.", "Serve a smaller model.")


def _check_node(node: NodeProto, limits: Limits, operators: Counter[str]) -> None:
    name = node.op_type[:100]
    if node.domain not in DOMAINS:
        raise BadModel(
            f"Operator {name!r} (node {node.name[:100]!r}) is of domain {node.domain[:100]!r}; only ONNX's own "
            "and ai.onnx.ml are allowed.",
            "Export the model with standard operators only.",
        )
    operators[name if node.domain in ("", "ai.onnx") else f"{node.domain}.{name}"] += 1
    for attribute in node.attribute:
        what = f"Attribute {attribute.name[:100]!r} of operator {name!r}"
        for tensor in [*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors]:
            _check_tensor(tensor, what, limits)
        for sparse in [*([attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else [])]:
            _check_sparse(sparse, what, limits)
        for sparse in attribute.sparse_tensors:
            _check_sparse(sparse, what, limits)


def _check_tensor(tensor: TensorProto, what: str, limits: Limits) -> None:
    if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
        where = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
        raise BadModel(f"{what} lies outside of the file (at {where[:200]!r}); that is never read.", _EMBED)
    size = _declared_bytes(tensor.dims, tensor.data_type, what, limits)
    if tensor.HasField("raw_data") and len(tensor.raw_data) != size:
        raise BadModel(
            f"{what} declares {size:,} bytes, and the file holds {len(tensor.raw_data):,} of them.",
            "Export the model again; the file is damaged.",
        )


def _check_sparse(sparse: SparseTensorProto, what: str, limits: Limits) -> None:
    """A sparse tensor is filled up when it is loaded, so its declared size counts."""
    _declared_bytes(sparse.dims, sparse.values.data_type, what, limits)
    _check_tensor(sparse.values, what, limits)
    _check_tensor(sparse.indices, what, limits)


def _check_declared(value: ValueInfoProto, limits: Limits) -> None:
    kind = value.type.tensor_type
    if value.type.HasField("tensor_type") and kind.HasField("shape"):
        known = [dim.dim_value for dim in kind.shape.dim if dim.HasField("dim_value")]
        _declared_bytes(known, kind.elem_type, f"Tensor {value.name[:100]!r}", limits)


def _declared_bytes(dims: Iterable[int], data_type: int, what: str, limits: Limits) -> int:
    sizes = list(dims)
    if any(size < 0 for size in sizes):
        raise BadModel(f"{what} has a negative dimension: {sizes[:8]}.", "Export the model again.")
    size = -(-math.prod(sizes) * _bits(data_type, what) // 8)
    if size > limits.tensor_bytes:
        raise TooLarge(
            f"{what} declares {size:,} bytes ({' x '.join(map(str, sizes[:8]))}); {limits.tensor_bytes:,} are allowed.",
            "Serve a smaller model.",
        )
    return size


def _bits(data_type: int, what: str) -> int:
    if data_type in _BITS:
        return _BITS[data_type]
    try:
        return 8 * int(np.dtype(onnx.helper.tensor_dtype_to_np_dtype(data_type)).itemsize)
    except (KeyError, ValueError, TypeError) as error:
        raise BadModel(f"{what} has the unknown element type {data_type}.", "Export the model again.") from error


def _check_onnx(data: bytes) -> None:
    """ONNX's own checker, with shape inference."""
    try:
        onnx.checker.check_model(data, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError, RuntimeError) as error:
        text = " ".join(str(error).split())[:400]
        raise BadModel(f"ONNX's checker refuses the model: {text}.", "Export it again.") from error
