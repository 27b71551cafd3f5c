"""Shard files on this machine: fetched once, verified, and mapped into memory instead of read.

A shard is safetensors: 8 bytes of header length, a JSON header, then the tensors, row by row. Mapping it costs nothing
until rows are touched, so a split of any size is read with random access in bounded memory.

Source: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from botocore.exceptions import BotoCoreError, ClientError
from numpy.typing import NDArray

from shoal.connection import Connection, aws_error
from shoal.errors import BadRequest, ServiceFailed

Arrays = dict[str, NDArray[Any]]
BLOCK = 1 << 20
_MAX_HEADER = 100 << 20
_TYPES = {
    "BOOL": "?",
    "U8": "<u1",
    "I8": "<i1",
    "I16": "<i2",
    "U16": "<u2",
    "I32": "<i4",
    "U32": "<u4",
    "I64": "<i8",
    "U64": "<u8",
    "F16": "<f2",
    "F32": "<f4",
    "F64": "<f8",
}


def cache_folder(cache: str | Path | None = None) -> Path:
    """Where shards are kept: `cache`, $SHOAL_CACHE, or `shoal` in the user's cache folder."""
    if cache is not None:
        return Path(cache).expanduser()
    if os.environ.get("SHOAL_CACHE"):
        return Path(os.environ["SHOAL_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "shoal"


def read_object(connection: Connection, key: str) -> bytes:
    """An object of the artifacts bucket. Raises what S3 answered, as the SDK's errors."""
    try:
        return bytes(connection.s3.get_object(Bucket=_bucket(connection), Key=key)["Body"].read())
    except (BotoCoreError, ClientError) as error:
        raise aws_error(error, f"object {key!r}") from error


def _bucket(connection: Connection) -> str:
    if not connection.artifacts:
        raise BadRequest(
            f"The cloud {connection.stack!r} doesn't say where its shards are.", "Deploy it with this version of Shoal."
        )
    return connection.artifacts


def fetch(connection: Connection, shard: dict[str, Any], path: Path, verify: bool = False) -> Path:
    """The shard as a file at `path`: the one that is there, or fetched, verified by its sha256 and put there at once.

    Args:
        connection: The cloud.
        shard: The manifest's entry: key, bytes, sha256.
        path: Where it goes.
        verify: Whether to hash a file that is there already.

    Raises:
        ServiceFailed: What came isn't what the manifest says.
        ConnectionFailed, NotAuthorised, NotFound: What S3 answered.
    """
    if path.is_file() and path.stat().st_size == shard["bytes"] and (not verify or _sha256(path) == shard["sha256"]):
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        body = connection.s3.get_object(Bucket=_bucket(connection), Key=shard["key"])["Body"]
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".fetch-", delete=False) as file:
            try:
                digest = hashlib.sha256()
                for block in body.iter_chunks(BLOCK):
                    digest.update(block)
                    file.write(block)
                if digest.hexdigest() != shard["sha256"]:
                    raise ServiceFailed(f"Shard {shard['key']!r} isn't what its manifest says.", "Fetch it again.")
                file.close()
                Path(file.name).replace(path)
            finally:
                Path(file.name).unlink(missing_ok=True)
    except (BotoCoreError, ClientError) as error:
        raise aws_error(error, f"shard {shard['key']!r}") from error
    return path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def map_shard(path: Path) -> Arrays:
    """A shard's tensors, mapped into memory read-only.

    Raises:
        ServiceFailed: The file isn't safetensors.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 0 < length <= _MAX_HEADER:
                raise ValueError("no header")
            header: dict[str, Any] = json.loads(file.read(length))
        # As a plain array: every slice of a memmap makes another Python object of its own kind, which costs.
        data = np.memmap(path, np.uint8, "r", offset=8 + length).view(np.ndarray)
        tensors: Arrays = {}
        for name, entry in header.items():
            if name != "__metadata__":
                start, stop = entry["data_offsets"]
                tensors[name] = data[start:stop].view(_TYPES[entry["dtype"]]).reshape(entry["shape"])
        return tensors
    except (ValueError, KeyError, TypeError) as error:
        raise ServiceFailed(f"{path} is no shard: {error}.", "Delete it and load again.") from error
