"""Kinesis' shard iterators: opaque to clients; here a stream, a shard, where to go on, and when it was made."""

from __future__ import annotations

import base64
import json
import time


def make_iterator(stream: str, shard: str, after: int) -> str:
    """An iterator that goes on after a number in the log."""
    return base64.b64encode(json.dumps([stream, shard, after, time.time()]).encode()).decode()


def read_iterator(iterator: str) -> tuple[str, str, int, float]:
    """(stream, shard, number to go on after, seconds since the epoch when it was made). Raises `ValueError`."""
    try:
        stream, shard, after, made = json.loads(base64.b64decode(iterator, validate=True))
        return str(stream), str(shard), int(after), float(made)
    except TypeError as error:
        raise ValueError(f"{iterator[:40]!r} isn't an iterator") from error


def stream_of_iterator(iterator: str) -> str:
    """Name of an iterator's stream; empty for what isn't one."""
    try:
        return read_iterator(iterator)[0]
    except ValueError:
        return ""
