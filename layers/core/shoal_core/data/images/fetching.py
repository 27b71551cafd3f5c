"""Reading many small objects: a few at once, in order, in bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from shoal_core.data.config import SourceFile
from shoal_core.data.requests import read_source
from shoal_core.store import ObjectStore

# A request takes some 20 ms, nearly all of it waiting.
THREADS = 16
MAX_BYTES_AHEAD = 64 * 1024**2
_MAX_AHEAD = 2 * THREADS


def read_ahead(uploads: ObjectStore, files: Sequence[SourceFile]) -> Iterator[bytes]:
    """The bytes of files, in their order; at most `MAX_BYTES_AHEAD` (or one file) are held. Raises as `read_source`."""
    waiting: deque[tuple[int, Future[bytes]]] = deque()
    held = 0
    with ThreadPoolExecutor(THREADS, thread_name_prefix="read-ahead") as pool:
        try:
            for file in files:
                while waiting and (len(waiting) >= _MAX_AHEAD or held + file.size > MAX_BYTES_AHEAD):
                    size, future = waiting.popleft()
                    yield future.result()
                    held -= size
                waiting.append((file.size, pool.submit(read_source, uploads, file)))
                held += file.size
            while waiting:
                yield waiting.popleft()[1].result()
        finally:
            # A reader that stops early, or an error, must not wait for what nobody will look at.
            for _, future in waiting:
                future.cancel()
