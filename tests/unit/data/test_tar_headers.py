import io
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal_core.data.archives import list_members, read_members
from shoal_core.data.tar_headers import PlainHeaders, file_header

PARTS = st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=60)
NAMES = st.lists(PARTS.filter(lambda part: part not in (".", "..")), min_size=1, max_size=5).map("/".join)
KINDS = st.sampled_from([tarfile.REGTYPE] * 4 + [tarfile.AREGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE])
ENTRIES = st.lists(st.tuples(NAMES, KINDS, st.binary(max_size=1200), st.floats(0, 2e9)), max_size=8)


def tar_of(entries, form: int, **options: object) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form, **options) as archive:
        for name, kind, data, time in entries:
            info = tarfile.TarInfo(name)
            info.type, info.mtime, info.linkname = kind, time, "x"
            info.size = len(data) if info.isreg() else 0
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


def expected(data: bytes) -> list[tuple[object, ...]]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return [(info.offset, info.name, info.size, info.offset_data, info.isreg(), info.isdir()) for info in archive]


@settings(max_examples=150, deadline=None)
@given(ENTRIES, st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
def test_headers_are_those_of_tarfile(entries, form):
    data = tar_of(entries, form, encoding="utf-8")
    headers = PlainHeaders(io.BytesIO(data), 0)
    assert [tuple(entry) for entry in headers] == expected(data)
    assert data[headers.offset : headers.offset + 512] == bytes(512)


def test_old_and_posix_names_with_prefixes():
    entries = [(f"{'d' * 60}/{'e' * 60}/{index}.png", tarfile.REGTYPE, b"x" * index, 0) for index in range(5)]
    data = tar_of(entries, tarfile.USTAR_FORMAT)
    assert [tuple(entry) for entry in PlainHeaders(io.BytesIO(data), 0)] == expected(data)


def test_a_binary_size():
    data = bytearray(tar_of([("a.png", tarfile.REGTYPE, b"abc", 0)], tarfile.GNU_FORMAT))
    data[124:136] = b"\x80" + (3).to_bytes(11, "big")
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    assert [entry.size for entry in PlainHeaders(io.BytesIO(bytes(data)), 0)] == [3]
    assert expected(bytes(data))[0][2] == 3


def test_global_headers_and_sparse_files_are_left_to_tarfile():
    pax = tar_of([("a/1.png", tarfile.REGTYPE, b"abc", 0)], tarfile.PAX_FORMAT, pax_headers={"comment": "made by git"})
    assert list(PlainHeaders(io.BytesIO(pax), 0)) == []
    stream = io.BytesIO(pax)
    assert [(member.name, data) for member, data in read_members(stream, "a", len(pax), 0, 9)] == [("a/1.png", b"abc")]
    sparse = bytearray(tar_of([("a/1.png", tarfile.REGTYPE, b"", 0)], tarfile.GNU_FORMAT))
    sparse[156:157] = tarfile.GNUTYPE_SPARSE
    sparse[148:156] = b" " * 8
    sparse[148:156] = b"%06o\0 " % sum(sparse[:512])
    assert list(PlainHeaders(io.BytesIO(bytes(sparse)), 0)) == []
    listed = list_members(io.BytesIO(bytes(sparse)), "a", len(sparse))
    assert [member.code for member in listed] == ["link"]


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_tar_is_entered_at_any_header(form):
    names = [f"{'ü' * 80}/{'x' * 80}{index}.png" for index in range(6)]
    data = tar_of([(name, tarfile.REGTYPE, name.encode(), 0.5) for name in names], form)
    members = list(list_members(io.BytesIO(data), "a", len(data)))
    for member in members:
        (found,) = read_members(io.BytesIO(data), "a", len(data), member.index, member.index + 1, member.offset)
        assert found == (member, names[member.index].encode())


@given(NAMES, st.integers(0, 2**34))
def test_headers_that_are_written_are_those_of_tarfile(name, size):
    info = tarfile.TarInfo(name)
    info.size = size
    header = file_header(name, size)
    assert len(header) % 512 == 0
    found = tarfile.TarInfo.frombuf(header[-512:], "utf-8", "surrogateescape")
    assert found.size == size and header == info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
