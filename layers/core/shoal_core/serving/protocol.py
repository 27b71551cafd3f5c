"""The Open Inference Protocol, version 2: requests and answers as JSON, and with the binary tensor extension.

A request's tensors are the inputs of the model's graph, as the model's metadata lists them. Nothing here knows of
HTTP or of ONNX Runtime.

Sources: https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md,
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shoal_core.errors import BadRequest, TooLarge

PLATFORM = "onnxruntime_onnx"
EXTENSIONS = ("binary_tensor_data",)
HEADER_LENGTH = "inference-header-content-length"
MAX_BATCH = 1000
MAX_DIMENSION = 2**31
_MAX_DIGITS = 15
_FIX = "See GET /v2/models/{name} for the inputs' names, datatypes and shapes."
_DTYPES: Mapping[str, Any] = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
_TYPES: Mapping[str, set[type]] = {"b": {bool}, "f": {int, float}, "i": {int}, "u": {int}}
"""What Python makes of the JSON values of a numpy type's kind."""
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_OF_ONNX: Mapping[str, str] = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}
BYTES = "BYTES"


def datatype_of(onnx_type: str) -> str | None:
    """The V2 datatype of ONNX Runtime's name of a type, such as `tensor(float)`; None for what isn't one."""
    return _OF_ONNX.get(onnx_type)


def dtype_of(datatype: str) -> np.dtype[Any]:
    """The numpy type of a V2 datatype other than BYTES."""
    dtype: np.dtype[Any] = _DTYPES[datatype]
    return dtype


@dataclass(frozen=True)
class TensorInfo:
    """A tensor of a model: its name, V2 datatype, and shape with -1 for what may vary."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    @classmethod
    def of(cls, value: Any) -> TensorInfo:  # noqa: ANN401 - onnxruntime.NodeArg has no stub
        """What ONNX Runtime says of an input or output."""
        shape = tuple(size if isinstance(size, int) else -1 for size in value.shape)
        return cls(value.name, _OF_ONNX[value.type], shape)

    def document(self) -> dict[str, Any]:
        """As the model's metadata lists it."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}


@dataclass(frozen=True)
class WantedOutput:
    """An output to answer with, in binary or as JSON."""

    name: str
    binary: bool


@dataclass(frozen=True)
class InferRequest:
    """A checked request: tensors by name, and which outputs it wants."""

    id: str | None
    tensors: dict[str, NDArray[Any]]
    outputs: tuple[WantedOutput, ...]


def parse_infer(
    body: bytes, header_length: str | None, inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]
) -> InferRequest:
    """Read a request of `/infer`.

    Args:
        body: JSON, and behind it the binary tensors.
        header_length: The header `Inference-Header-Content-Length`: bytes of JSON; None when there is only JSON.
        inputs: What the model takes.
        outputs: What it answers.

    Raises:
        BadRequest: Not such a request, or tensors that the model doesn't take; names the tensor.
        TooLarge: More than `MAX_BATCH` samples.
    """
    document, blob = _split(body, header_length)
    known = {info.name: info for info in inputs}
    tensors: dict[str, NDArray[Any]] = {}
    for entry in _list_of_objects(document, "inputs"):
        name = _text(entry, "name", "an input")
        if name not in known:
            raise BadRequest(f"The model has no input {name[:200]!r}.", f"Its inputs are: {_names(inputs)}.")
        if name in tensors:
            raise BadRequest(f"Input {name!r} is there twice.", "Send every input once.")
        tensors[name], blob = _read_tensor(entry, known[name], blob)
    missing = [info.name for info in inputs if info.name not in tensors]
    if missing:
        raise BadRequest(f"Input {missing[0]!r} is missing.", f"Send all inputs: {_names(inputs)}.")
    if blob:
        raise BadRequest(f"{len(blob):,} bytes are left behind the last binary tensor.", _FIX)
    _check_batch(tensors)
    identity = document.get("id")
    if identity is not None and not isinstance(identity, str):
        raise BadRequest("The request's id isn't a text.", 'Send "id" as a text, or leave it out.')
    return InferRequest(identity, tensors, _wanted(document, outputs))


def infer_answer(
    request: InferRequest, model: str, version: int, results: Mapping[str, NDArray[Any]]
) -> tuple[bytes, int | None]:
    """Write the answer.

    Returns:
        The body, and the bytes of JSON before its binary tensors; None when it is JSON only.
    """
    entries: list[dict[str, Any]] = []
    blobs: list[bytes] = []
    for wanted in request.outputs:
        array = results[wanted.name]
        entry: dict[str, Any] = {"name": wanted.name, "datatype": _datatype(array), "shape": list(array.shape)}
        if wanted.binary:
            blobs.append(_to_bytes(array))
            entry["parameters"] = {"binary_data_size": len(blobs[-1])}
        else:
            entry["data"] = _to_json(array)
        entries.append(entry)
    document: dict[str, Any] = {"model_name": model, "model_version": str(version), "outputs": entries}
    if request.id is not None:
        document["id"] = request.id
    head = json.dumps(document, separators=(",", ":")).encode()
    return (b"".join([head, *blobs]), len(head)) if blobs else (head, None)


def model_metadata(
    name: str, versions: Sequence[int], inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]
) -> dict[str, Any]:
    """The answer of `GET /v2/models/{name}`."""
    return {
        "name": name,
        "versions": [str(version) for version in versions],
        "platform": PLATFORM,
        "inputs": [info.document() for info in inputs],
        "outputs": [info.document() for info in outputs],
    }


def _split(body: bytes, header_length: str | None) -> tuple[dict[str, Any], memoryview]:
    head, blob = body, memoryview(b"")
    if header_length is not None:
        digits = header_length.isascii() and header_length.isdigit() and len(header_length) <= _MAX_DIGITS
        if not digits or int(header_length) > len(body):
            raise BadRequest(
                f"Inference-Header-Content-Length is {header_length[:40]!r}, and the body has {len(body):,} bytes.",
                "Send the number of bytes of JSON before the binary tensors.",
            )
        head, blob = body[: int(header_length)], memoryview(body)[int(header_length) :]
    try:
        document = json.loads(head)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"The request isn't valid JSON: {error}.", _FIX) from error
    if not isinstance(document, dict):
        raise BadRequest("The request's JSON isn't an object.", 'Send {"inputs": [...]}.')
    return document, blob


def _read_tensor(entry: Mapping[str, Any], info: TensorInfo, blob: memoryview) -> tuple[NDArray[Any], memoryview]:
    shape = _shape(entry, info)
    datatype = _text(entry, "datatype", f"input {info.name!r}")
    if datatype != info.datatype:
        raise BadRequest(
            f"Input {info.name!r} has datatype {datatype[:40]}; the model takes {info.datatype}.",
            "Convert it before sending.",
        )
    parameters = entry.get("parameters")
    size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
    if size is None:
        return _from_json(entry.get("data"), shape, info), blob
    if "data" in entry:
        raise BadRequest(f"Input {info.name!r} has data as JSON and in binary.", "Send one of them.")
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= len(blob):
        raise BadRequest(
            f"Input {info.name!r} has binary_data_size {size!r:.40}, and {len(blob):,} bytes are left in the body.",
            "Send as many bytes as binary_data_size says, behind the JSON, in the order of the inputs.",
        )
    return _from_bytes(blob[:size], shape, info), blob[size:]


def _shape(entry: Mapping[str, Any], info: TensorInfo) -> tuple[int, ...]:
    shape = entry.get("shape")
    if not isinstance(shape, list) or any(isinstance(n, bool) or not isinstance(n, int) or n < 0 for n in shape):
        raise BadRequest(f"Input {info.name!r} has no shape.", 'Send "shape": a list of whole numbers.')
    fits = len(shape) == len(info.shape) and all(own in (-1, size) for own, size in zip(info.shape, shape, strict=True))
    if not fits or not all(0 < size <= MAX_DIMENSION for size in shape):
        raise BadRequest(
            f"Input {info.name!r} has shape {str(shape)[:100]}; the model takes {list(info.shape)}.",
            f"-1 stands for any number from 1 to {MAX_DIMENSION:,}.",
        )
    return tuple(shape)


def _from_json(data: object, shape: tuple[int, ...], info: TensorInfo) -> NDArray[Any]:
    if not isinstance(data, list):
        raise BadRequest(f"Input {info.name!r} has no data.", 'Send "data": a list in row-major order.')
    flat, kinds = _flat(data, info)
    if len(flat) != math.prod(shape):
        raise BadRequest(f"Input {info.name!r} has {len(flat):,} values; its shape needs {math.prod(shape):,}.", _FIX)
    if info.datatype == BYTES:
        return _texts(flat, kinds, info).reshape(shape)
    return _numbers(flat, kinds, info).reshape(shape)


def _flat(data: list[Any], info: TensorInfo) -> tuple[list[Any], set[type]]:
    """The values of nested lists, and their types.

    numpy would find both by itself, but one text among numbers makes it take as much for each of them as for the text.
    """
    while list in (kinds := set(map(type, data))):
        if len(kinds) > 1 or len(set(map(len, data))) > 1:
            raise BadRequest(f"Input {info.name!r}: its data is ragged.", "Nest all rows alike.")
        data = list(chain.from_iterable(data))
    return data, kinds


def _texts(flat: list[Any], kinds: set[type], info: TensorInfo) -> NDArray[Any]:
    if kinds != {str}:
        raise BadRequest(f"Input {info.name!r} has values that aren't texts.", "Send texts.")
    try:
        "".join(flat).encode()
    except UnicodeEncodeError as error:
        raise BadRequest(f"Input {info.name!r} has half of a surrogate pair.", "Send whole characters.") from error
    return np.array(flat, object)


def _numbers(flat: list[Any], kinds: set[type], info: TensorInfo) -> NDArray[Any]:
    """JSON numbers as the tensor's type; nothing is cut, wrapped or made up."""
    dtype = _DTYPES[info.datatype]
    try:
        if not kinds <= _TYPES[dtype.kind]:
            raise TypeError
        with np.errstate(over="raise"):
            # float64 first: numpy makes an infinity of what is too large for a smaller float, and says nothing.
            found: NDArray[Any] = np.array(flat, np.float64 if dtype.kind == "f" else dtype).astype(dtype, copy=False)
    except (TypeError, OverflowError, FloatingPointError) as error:
        raise BadRequest(f"Input {info.name!r} has values that aren't {info.datatype}.", _FIX) from error
    return found


def _from_bytes(data: memoryview, shape: tuple[int, ...], info: TensorInfo) -> NDArray[Any]:
    count = math.prod(shape)
    if info.datatype == BYTES:
        return _read_texts(data, count, info.name).reshape(shape)
    dtype = _DTYPES[info.datatype]
    if len(data) != count * dtype.itemsize:
        raise BadRequest(
            f"Input {info.name!r} has {len(data):,} bytes; {info.datatype} of its shape has "
            f"{count * dtype.itemsize:,}.",
            _FIX,
        )
    flat: NDArray[Any] = np.frombuffer(data, np.uint8) != 0 if dtype.kind == "b" else np.frombuffer(data, dtype)
    return flat.reshape(shape)


def _read_texts(data: memoryview, count: int, name: str) -> NDArray[Any]:
    """BYTES: each element is its length (4 bytes, little endian) and then its bytes."""
    texts: list[str] = []
    place = 0
    try:
        for _ in range(count):
            (length,) = struct.unpack_from("<I", data, place)
            place += 4 + length
            if place > len(data):
                raise ValueError("it is cut short")
            texts.append(bytes(data[place - length : place]).decode())
        if place != len(data):
            raise ValueError("it has bytes left over")
    except (struct.error, ValueError) as error:
        raise BadRequest(
            f"Input {name!r} isn't {count:,} texts: {error}.", "Send length and UTF-8 bytes of each."
        ) from error
    return np.array(texts, object)


def _check_batch(tensors: Mapping[str, NDArray[Any]]) -> None:
    sizes = {name: array.shape[0] for name, array in tensors.items() if array.ndim}
    if len(set(sizes.values())) > 1:
        raise BadRequest(f"The inputs hold different numbers of samples: {sizes}.", "Send as many of each.")
    if sizes and max(sizes.values()) > MAX_BATCH:
        raise TooLarge(
            f"The request has {max(sizes.values()):,} samples; {MAX_BATCH:,} are allowed.",
            "Send them in several requests.",
        )


def _wanted(document: Mapping[str, Any], outputs: Sequence[TensorInfo]) -> tuple[WantedOutput, ...]:
    """What the request asks for; all outputs when it names none."""
    binary = _flag(document, "binary_data_output", False)
    if not document.get("outputs"):
        return tuple(WantedOutput(info.name, binary) for info in outputs)
    known = {info.name for info in outputs}
    wanted: list[WantedOutput] = []
    for entry in _list_of_objects(document, "outputs"):
        name = _text(entry, "name", "an output")
        if name not in known:
            raise BadRequest(f"The model has no output {name[:200]!r}.", f"Its outputs are: {_names(outputs)}.")
        if _flag(entry, "classification", 0):
            raise BadRequest("The classification extension isn't supported.", "Use POST /models/{name}/predict.")
        wanted.append(WantedOutput(name, bool(_flag(entry, "binary_data", binary))))
    return tuple(wanted)


def _flag(entry: Mapping[str, Any], name: str, default: Any) -> Any:  # noqa: ANN401 - a JSON value
    parameters = entry.get("parameters")
    return parameters.get(name, default) if isinstance(parameters, dict) else default


def _list_of_objects(document: Mapping[str, Any], field: str) -> list[dict[str, Any]]:
    value = document.get(field)
    if not isinstance(value, list) or not value or not all(isinstance(entry, dict) for entry in value):
        raise BadRequest(f"The request has no list of {field}.", f'Send "{field}": [{{"name": …}}].')
    return value


def _text(entry: Mapping[str, Any], field: str, what: str) -> str:
    value = entry.get(field)
    if not isinstance(value, str):
        raise BadRequest(f"{what[0].upper()}{what[1:]} has no {field}.", _FIX)
    return value


def _names(tensors: Sequence[TensorInfo]) -> str:
    return ", ".join(f"{info.name} {info.datatype} {list(info.shape)}" for info in tensors)


def _datatype(array: NDArray[Any]) -> str:
    return BYTES if array.dtype == object else _NAMES[array.dtype.newbyteorder("<")]


def _to_bytes(array: NDArray[Any]) -> bytes:
    if array.dtype == object:
        texts = [str(value).encode() for value in array.reshape(-1)]
        return b"".join(struct.pack("<I", len(text)) + text for text in texts)
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()


def _to_json(array: NDArray[Any]) -> list[Any]:
    flat = array.reshape(-1).tolist()
    if array.dtype.kind == "f":
        # JSON has no NaN or infinity; null says that there is no number.
        return [value if math.isfinite(value) else None for value in flat]
    return list(flat)
