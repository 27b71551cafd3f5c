"""Shards: named tensors in one safetensors file, byte for byte the same for the same tensors.

Format: https://huggingface.co/docs/safetensors (8-byte header length, JSON header, raw little-endian data).
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Container, Mapping
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from shoal_core.errors import BadInput

Tensors = dict[str, NDArray[Any]]

_DTYPES: Mapping[str, np.dtype[Any]] = {
    name: np.dtype(code)
    for name, code in (
        ("BOOL", "?"),
        ("U8", "u1"),
        ("I8", "i1"),
        ("U16", "<u2"),
        ("I16", "<i2"),
        ("U32", "<u4"),
        ("I32", "<i4"),
        ("U64", "<u8"),
        ("I64", "<i8"),
        ("F16", "<f2"),
        ("F32", "<f4"),
        ("F64", "<f8"),
    )
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_MAX_HEADER = 100 * 1024 * 1024
_FIX = "Upload the data again under the same name: a new version is made from it."


def encode_shard(tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str] | None = None) -> bytes:
    """Write tensors as safetensors.

    The official writer orders metadata by a hash map, so its bytes may differ between runs; here tensors lie by
    falling item size and then by name, the header's keys are sorted, and it is padded to 8 bytes, so data is aligned.

    Args:
        tensors: Name -> array of a numeric or boolean dtype, any shape.
        metadata: Text -> text, kept in the header.
    """
    arrays = {name: _little(np.asarray(array)) for name, array in tensors.items()}
    text, ordered = _head({name: (array.dtype, array.shape) for name, array in arrays.items()}, metadata)
    parts = (arrays[name].reshape(-1).view(np.uint8).data for name in ordered if arrays[name].size)
    return b"".join([text, *parts])


def new_shard(shapes: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]) -> tuple[bytearray, Tensors]:
    """A shard to be filled: its bytes, which are those of `encode_shard` once its tensors, views of them, are written.

    Args:
        shapes: Name -> little-endian dtype and shape.
    """
    text, ordered = _head(shapes, None)
    sizes = {name: dtype.itemsize * math.prod(shape) for name, (dtype, shape) in shapes.items()}
    data = bytearray(len(text) + sum(sizes.values()))
    data[: len(text)] = text
    tensors: Tensors = {}
    offset = len(text)
    for name in ordered:
        tensors[name] = np.ndarray(shapes[name][1], shapes[name][0], data, offset)
        offset += sizes[name]
    return data, tensors


def _head(
    shapes: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]], metadata: Mapping[str, str] | None
) -> tuple[bytes, list[str]]:
    """The bytes before the tensors, and the tensors' names in the order of their data."""
    header: dict[str, object] = {}
    if metadata:
        header["__metadata__"] = dict(metadata)
    ordered = sorted(shapes, key=lambda name: (-shapes[name][0].itemsize, name))
    offset = 0
    for name in ordered:
        dtype, shape = shapes[name]
        size = dtype.itemsize * math.prod(shape)
        header[name] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text, ordered


def decode_shard(data: bytes, name: str = "The shard") -> Tensors:
    """Read safetensors; the arrays are read-only views of `data`.

    Args:
        data: The file.
        name: What to call it in errors, for example its key.

    Raises:
        BadInput: The bytes aren't a whole safetensors file.
    """
    header, start = _header(data, name)
    tensors: Tensors = {}
    for tensor, entry in header.items():
        if tensor != "__metadata__":
            tensors[tensor] = _tensor(data, start, entry, f"{name}: tensor {tensor!r}")
    return tensors


def read_metadata(data: bytes, name: str = "The shard") -> dict[str, str]:
    """The metadata of a safetensors file. Raises `BadInput` as `decode_shard` does."""
    header, _ = _header(data, name)
    return {str(key): str(value) for key, value in header.get("__metadata__", {}).items()}


def tensor_offsets(data: bytes | bytearray, name: str = "The shard") -> dict[str, int]:
    """Where each tensor's bytes begin in the file. Raises `BadInput` as `decode_shard` does."""
    header, start = _header(data, name)
    return {tensor: start + entry["data_offsets"][0] for tensor, entry in header.items() if tensor != "__metadata__"}


def read_rows(
    stream: BinaryIO, start: int, stop: int, names: Container[str] | None = None, name: str = "The shard"
) -> Tensors:
    """Rows start..stop (along the first axis) of every tensor, fetching only their bytes.

    Args:
        stream: A seekable safetensors file, for example `ObjectStore.open(key)`.
        start: First row.
        stop: Row after the last one.
        names: Tensors to read; None is all of them.
        name: What to call the file in errors.

    Raises:
        BadInput: The file isn't whole safetensors.
    """
    stream.seek(0)
    head = stream.read(8)
    length = struct.unpack("<Q", head)[0] if len(head) == 8 else _MAX_HEADER + 1
    if length > _MAX_HEADER:
        raise BadInput(f"{name} isn't safetensors.", _FIX)
    head += stream.read(length)
    header, begin = _header(head, name)
    tensors: Tensors = {}
    for tensor in sorted(header.keys() - {"__metadata__"}):
        if names is not None and tensor not in names:
            continue
        entry = header[tensor]
        dtype = _DTYPES[entry["dtype"]]
        shape = entry["shape"]
        row = math.prod(shape[1:]) * dtype.itemsize
        stream.seek(begin + entry["data_offsets"][0] + start * row)
        data = stream.read((stop - start) * row)
        if len(data) != (stop - start) * row:
            raise BadInput(f"{name}: tensor {tensor!r} is cut short.", _FIX)
        tensors[tensor] = np.frombuffer(data, dtype).reshape((stop - start, *shape[1:]))
    return tensors


def _little(array: NDArray[Any]) -> NDArray[Any]:
    shape = array.shape
    array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).reshape(shape)
    if array.dtype not in _NAMES:
        raise TypeError(f"safetensors has no dtype for {array.dtype}")
    return array


def _header(data: bytes | bytearray, name: str) -> tuple[dict[str, Any], int]:
    if len(data) < 8:
        raise BadInput(f"{name} has {len(data)} bytes: too short for safetensors.", _FIX)
    (length,) = struct.unpack_from("<Q", data)
    if length > min(_MAX_HEADER, len(data) - 8):
        raise BadInput(f"{name} isn't safetensors: its header would have {length:,} bytes.", _FIX)
    try:
        header = json.loads(data[8 : 8 + length])
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{name} isn't safetensors: its header isn't JSON.", _FIX) from error
    if not isinstance(header, dict):
        raise BadInput(f"{name} isn't safetensors: its header isn't an object.", _FIX)
    return header, 8 + length


def _tensor(data: bytes, start: int, entry: object, name: str) -> NDArray[Any]:
    if not isinstance(entry, dict):
        raise BadInput(f"{name} has a broken description.", _FIX)
    try:
        dtype = _DTYPES[entry["dtype"]]
        shape = tuple(int(size) for size in entry["shape"])
        begin, end = (int(offset) for offset in entry["data_offsets"])
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{name} has a broken description.", _FIX) from error
    count = 1
    for size in shape:
        count *= size
    if (
        min((0, *shape)) < 0
        or max((0, *shape)) > len(data)
        or not 0 <= begin <= end <= len(data) - start
        or end - begin != count * dtype.itemsize
    ):
        raise BadInput(f"{name} lies outside the file: it is cut short or damaged.", _FIX)
    if count == 0:
        return np.empty(shape, dtype)
    return np.frombuffer(data, dtype=dtype, count=count, offset=start + begin).reshape(shape)
