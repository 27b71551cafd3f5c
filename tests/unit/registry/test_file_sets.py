"""Sets of files, small and large: bounded memory, and names that depend on the content alone."""

from __future__ import annotations

import hashlib
import random
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal_core.data import listings
from shoal_core.data.config import DatasetConfig, DatasetRequest, SourceFile
from shoal_core.data.requests import FileList, open_source, read_source
from shoal_core.errors import BadInput, Conflict, TooLarge
from shoal_core.registry import file_sets
from shoal_core.registry.file_sets import ContentSum, ListingWriter, collect
from tests.support.stores import MemoryStore


def listed(count: int) -> Iterator[SourceFile]:
    for number in range(count):
        yield SourceFile.model_construct(
            key=f"datasets/many/{number // 1000:04d}/image-{number:07d}.png",
            name=None,
            version=f"v{number}",
            size=number % 7,
            etag=f"{number:032x}",
            sha256=None,
            bucket=None,
        )


def no_reading(key: str, version: str | None) -> SourceFile:
    raise AssertionError("a large set isn't read")


class Forgetful(MemoryStore):
    """Counts what is written and keeps none of it."""

    written = 0

    def write(self, key: str, data: bytes, content_type: str = "application/octet-stream") -> None:
        self.written += len(data)


def test_a_large_listing_is_committed_in_bounded_memory() -> None:
    """50,000 objects; a million take the same memory, as every part is let go of once it is written."""
    tracemalloc.start()
    try:
        found = collect(Forgetful(), "many", listed(50_000), no_reading)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found is not None and found.listing is not None
    assert (found.listing.count, len(found.listing.parts), found.files) == (50_000, 5, ())
    assert peak < 24 << 20


def request_of(store: MemoryStore, count: int) -> DatasetRequest:
    found = collect(store, "many", listed(count), no_reading)
    assert found is not None
    return DatasetRequest(dataset="many", version="0" * 12, files=found.files, listing=found.listing)


@settings(max_examples=40, deadline=None)
@given(count=st.integers(4, 60), size=st.integers(1, 9), cut=st.tuples(st.integers(0, 60), st.integers(0, 60)))
def test_a_file_list_is_the_listing_whatever_its_parts(count: int, size: int, cut: tuple[int, int]) -> None:
    before = (file_sets.PART_FILES, file_sets.MAX_READ_FILES)
    file_sets.PART_FILES = file_sets.MAX_READ_FILES = size  # type: ignore[misc]
    try:
        store = MemoryStore()
        writer = ListingWriter(store, "many")
        for file in listed(count):
            writer.add(file)
        writer.flush()
        found = writer.finish()
    finally:
        file_sets.PART_FILES, file_sets.MAX_READ_FILES = before  # type: ignore[misc]
    request = DatasetRequest(dataset="many", version="0" * 12, files=found.files, listing=found.listing)
    files, expected = FileList(store, request), list(listed(count))
    assert len(files) == count
    assert list(files) == expected
    first, last = min(cut), max(cut)
    assert files.part(first, last) == files[first:last] == expected[first:last]
    assert files[-1] == expected[-1]
    with pytest.raises(IndexError):
        files[count]


def test_only_the_parts_that_are_asked_for_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    request = request_of(store, 30_001)
    read: list[str] = []
    original = MemoryStore.read
    monkeypatch.setattr(store, "read", lambda key, *rest: read.append(key) or original(store, key))
    assert [file.version for file in FileList(store, request).part(19_999, 20_001)] == ["v19999", "v20000"]
    assert request.listing is not None
    assert read == [part.key for part in request.listing.parts[1:3]]


def test_a_listing_that_was_tampered_with_is_refused() -> None:
    store = MemoryStore()
    request = request_of(store, 10_001)
    assert request.listing is not None
    first, second = request.listing.parts
    store.objects[first.key] = store.objects[second.key]
    with pytest.raises(BadInput, match="isn't what was written there"):
        list(FileList(store, request))
    store.objects[first.key] = b"no gzip"
    with pytest.raises(BadInput, match="can't be read"):
        list(FileList(store, request))


def test_the_name_of_a_set_depends_on_neither_parts_nor_order() -> None:
    entries = [b"%d" % number for number in range(100)]
    whole = ContentSum()
    for entry in entries:
        whole.add(entry)
    random.Random(1).shuffle(entries)
    merged = ContentSum()
    for first in range(0, 100, 7):
        part = ContentSum()
        for entry in entries[first : first + 7]:
            part.add(entry)
        merged.merge(part.count, part.total)
    assert merged.digest() == whole.digest()
    merged.add(b"0")
    assert merged.digest() != whole.digest()


def test_too_many_files_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_sets, "MAX_FILES", 10)
    with pytest.raises(TooLarge, match="more than 10 files"):
        collect(MemoryStore(), "many", listed(11), no_reading)


def test_where_data_comes_from_is_no_part_of_its_name() -> None:
    found = collect(Forgetful(), "many", listed(10_001), no_reading)
    assert found is not None
    plain = found.version(DatasetConfig())
    source = {"source": {"s3": "s3://lake/x"}, "schedule": "rate(1 day)", "files": "**"}
    assert found.version(DatasetConfig.model_validate(source)) == plain
    assert found.version(DatasetConfig(seed=1)) != plain


def test_a_file_that_changed_after_its_listing_is_refused_by_name() -> None:
    store = MemoryStore()
    lake = store.in_bucket("lake")
    lake.write("a.csv", b"one")
    file = SourceFile(key="a.csv", size=3, etag=hashlib.md5(b"one", usedforsecurity=False).hexdigest(), bucket="lake")
    assert read_source(store, file) == b"one"
    with open_source(store, file) as stream:
        assert stream.read() == b"one"
    lake.write("a.csv", b"two")
    for read in (read_source, open_source):
        with pytest.raises(Conflict, match=r"'a\.csv' has changed since it was listed"):
            read(store, file)


def test_parts_are_named_by_their_content() -> None:
    store = MemoryStore()
    files = list(listed(3))
    assert listings.write_part(store, "many", files) == listings.write_part(store, "many", files)
    assert len(store.objects) == 1
