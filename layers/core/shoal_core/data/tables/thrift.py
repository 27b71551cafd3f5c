"""Thrift's compact protocol, as far as Parquet's footer needs it: any struct, read and written back without a schema.

Source: Apache Thrift, doc/specs/thrift-compact-protocol.md. A struct is {field id: (type, value)}, a list is (type of
its items, items); unknown fields survive being written back.
"""

from __future__ import annotations

import struct
from typing import Any

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)
Struct = dict[int, tuple[int, Any]]
_MAX_DEPTH = 32


class CompactReader:
    """Reads values from bytes. Raises `ValueError` or `IndexError` on bytes that aren't thrift."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._place = 0
        self._depth = 0

    def read_struct(self) -> Struct:
        """One struct."""
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise ValueError("structs are nested too deeply")
        found: Struct = {}
        field = 0
        while (head := self._byte()) != 0:
            kind = head & 0x0F
            field = field + (head >> 4) if head >> 4 else self._zigzag()
            found[field] = (kind, True if kind == TRUE else False if kind == FALSE else self._value(kind))
        self._depth -= 1
        return found

    def _value(self, kind: int) -> Any:  # noqa: ANN401 - whatever the kind says
        if kind in (TRUE, FALSE):
            return self._byte() == TRUE
        if kind == BYTE:
            return self._byte()
        if kind in (I16, I32, I64):
            return self._zigzag()
        if kind == DOUBLE:
            return struct.unpack("<d", self._take(8))[0]
        if kind == BINARY:
            return self._take(self._varint())
        if kind in (LIST, SET):
            head = self._byte()
            size = head >> 4 if head >> 4 != 15 else self._varint()
            if size > len(self._data):
                raise ValueError("a list is longer than the bytes")
            return head & 0x0F, [self._value(head & 0x0F) for _ in range(size)]
        if kind == STRUCT:
            return self.read_struct()
        raise ValueError(f"type {kind} isn't one of a Parquet footer")

    def _byte(self) -> int:
        self._place += 1
        return self._data[self._place - 1]

    def _take(self, size: int) -> bytes:
        if self._place + size > len(self._data):
            raise ValueError("the bytes end early")
        self._place += size
        return self._data[self._place - size : self._place]

    def _varint(self) -> int:
        found = shift = 0
        while True:
            byte = self._byte()
            found |= (byte & 0x7F) << shift
            if byte < 0x80:
                return found
            shift += 7
            if shift > 70:
                raise ValueError("a number is too long")

    def _zigzag(self) -> int:
        found = self._varint()
        return (found >> 1) ^ -(found & 1)


def write_struct(fields: Struct) -> bytes:
    """The bytes of a struct."""
    out = bytearray()
    last = 0
    for field, (kind, value) in sorted(fields.items()):
        if kind in (TRUE, FALSE):
            kind = TRUE if value else FALSE
        if 0 < field - last <= 15:
            out.append((field - last) << 4 | kind)
        else:
            out.append(kind)
            out += _zigzag(field)
        last = field
        if kind not in (TRUE, FALSE):
            out += _value(kind, value)
    out.append(0)
    return bytes(out)


def _value(kind: int, value: Any) -> bytes:  # noqa: ANN401 - whatever the kind says
    if kind in (TRUE, FALSE):
        return bytes([TRUE if value else FALSE])
    if kind == BYTE:
        return bytes([value])
    if kind in (I16, I32, I64):
        return _zigzag(value)
    if kind == DOUBLE:
        return struct.pack("<d", value)
    if kind == BINARY:
        return _varint(len(value)) + bytes(value)
    if kind in (LIST, SET):
        of, items = value
        head = bytes([len(items) << 4 | of]) if len(items) < 15 else bytes([0xF0 | of]) + _varint(len(items))
        return head + b"".join(_value(of, item) for item in items)
    return write_struct(value)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _zigzag(value: int) -> bytes:
    return _varint(value << 1 if value >= 0 else (-value << 1) - 1)
