import itertools
import threading

import pytest

from shoal_core.data.config import SourceFile
from shoal_core.data.images import fetching
from shoal_core.data.images.fetching import read_ahead
from shoal_core.errors import NotFound
from tests.support.stores import MemoryStore


class CountingStore(MemoryStore):
    """Counts the bytes that were read and not yet handed on."""

    def __init__(self, objects: dict[str, bytes]) -> None:
        super().__init__(objects)
        self.lock = threading.Lock()
        self.held = self.most = 0

    def read(self, key, *arguments):
        data = super().read(key, *arguments)
        with self.lock:
            self.held += len(data)
            self.most = max(self.most, self.held)
        return data


def files_of(store: MemoryStore) -> list[SourceFile]:
    return [SourceFile(key=key, size=len(data)) for key, data in store.objects.items()]


def test_the_order_is_kept():
    store = MemoryStore({f"{index}": bytes([index]) * index for index in range(200)})
    assert list(read_ahead(store, files_of(store))) == list(store.objects.values())
    assert list(read_ahead(store, [])) == []


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(fetching, "MAX_BYTES_AHEAD", 5000)
    store = CountingStore({f"{index}": bytes(1000) for index in range(100)})
    for data in read_ahead(store, files_of(store)):
        store.held -= len(data)
    assert store.most <= 6000


def test_one_file_larger_than_the_bound_is_read(monkeypatch):
    monkeypatch.setattr(fetching, "MAX_BYTES_AHEAD", 10)
    store = MemoryStore({f"{index}": bytes(100) for index in range(3)})
    assert [len(data) for data in read_ahead(store, files_of(store))] == [100, 100, 100]


def test_a_file_that_is_gone_is_told_in_its_turn():
    store = MemoryStore({"a": b"1"})
    files = [*files_of(store), SourceFile(key="b", size=1)]
    found = read_ahead(store, files)
    assert next(found) == b"1"
    with pytest.raises(NotFound):
        next(found)


def test_a_reader_may_stop_early():
    store = MemoryStore({f"{index}": b"x" for index in range(100)})
    assert list(itertools.islice(read_ahead(store, files_of(store)), 3)) == [b"x"] * 3
