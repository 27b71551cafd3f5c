import gzip
import io
import struct
import tarfile
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal_core.data.archives import LIMITS, Limits, archive_format, list_members, read_members
from shoal_core.errors import BadArchive
from tests.unit.data.builders import grey_png, tar_of, zip_of

GOOD = {"a/1.png": grey_png(1), "b/2 ü+é.png": grey_png(2)}


def listed(data: bytes, limits: Limits = LIMITS):
    return list(list_members(io.BytesIO(data), "up.zip", len(data), limits))


def read(data: bytes, limits: Limits = LIMITS):
    return list(read_members(io.BytesIO(data), "up.zip", len(data), 0, 1000, limits=limits))


def packed(members, kind):
    return zip_of(members) if kind == "zip" else tar_of(members, kind == "tar.gz")


KINDS = pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])


@KINDS
def test_members_come_in_order(kind):
    data = packed(GOOD, kind)
    assert archive_format(io.BytesIO(data), "x") == kind
    assert [(member.name, member.size, member.code) for member in listed(data)] == [
        (name, len(file), "") for name, file in GOOD.items()
    ]
    assert {member.name: file for member, file in read(data)} == GOOD


@KINDS
def test_a_slice_is_read_alone(kind):
    data = packed({f"c/{n}.png": bytes([n]) * n for n in range(1, 20)}, kind)
    members = listed(data)
    found = list(read_members(io.BytesIO(data), "x", len(data), 7, 10, members[7].offset))
    assert [(member.index, len(file)) for member, file in found] == [(7, 8), (8, 9), (9, 10)]
    found = list(read_members(io.BytesIO(data), "x", len(data), 7, 19, members[7].offset, {9, 18}))
    assert [len(file) for _, file in found] == [10, 19]


@KINDS
@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("/etc/1.png", "unsafe_name"),
        ("../1.png", "unsafe_name"),
        ("a/../../1.png", "unsafe_name"),
        ("C:/1.png", "unsafe_name"),
        ("a/more.zip", "nested_archive"),
        ("__MACOSX/a/._1.png", "junk"),
        ("a/.DS_Store", "junk"),
        ("a/Thumbs.db", "junk"),
    ],
)
def test_a_bad_name_is_refused_and_the_rest_goes_on(kind, name, code):
    data = packed({name: b"x", **GOOD}, kind)
    assert [member.code for member in listed(data)] == [code, "", ""]
    assert next(len(file) for _, file in read(data)) == 0
    first = listed(data)[0]
    assert first.junk or (first.reason and first.fix)


def test_backslashes_are_separators():
    assert [member.name for member in listed(zip_of({"a\\1.png": b"x"}))] == ["a/1.png"]
    assert listed(zip_of({"..\\1.png": b"x"}))[0].code == "unsafe_name"


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar(kind):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        info = tarfile.TarInfo("a/1.png")
        info.type = kind
        info.linkname = "/etc/passwd"
        archive.addfile(info)
    assert [member.code for member in listed(file.getvalue())] == ["link"]


def test_a_link_in_a_zip():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        info = zipfile.ZipInfo("a/1.png")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    assert [member.code for member in listed(file.getvalue())] == ["link"]


def test_an_encrypted_member():
    data = bytearray(zip_of({"a/1.png": b"x"}))
    data[data.index(b"PK\x01\x02") + 8] |= 1
    assert listed(bytes(data))[0].code == "encrypted"


def test_an_unusual_compression():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("a/1.png", b"x" * 100)
    assert listed(file.getvalue())[0].code == "compression"


@KINDS
def test_a_large_member_is_refused_unread(kind):
    data = packed({"a/1.png": b"x" * 2000, "a/2.png": b"y"}, kind)
    assert [member.code for member in listed(data, Limits(member_bytes=1000))] == ["too_large", ""]


@KINDS
def test_too_many_members(kind):
    with pytest.raises(BadArchive, match="more than 1 members"):
        listed(packed(GOOD, kind), Limits(members=1))


@KINDS
def test_too_many_bytes(kind):
    with pytest.raises(BadArchive, match="more than 100 bytes"):
        listed(packed(GOOD, kind), Limits(total_bytes=100))


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_a_bomb_is_refused(kind):
    data = packed({f"a/{n}.png": b"\0" * 1_000_000 for n in range(6)}, kind)
    with pytest.raises(BadArchive, match="bomb"):
        listed(data, Limits(ratio_floor=1_000_000))


def test_a_zip_that_lies_about_its_sizes_is_damaged_not_unpacked():
    data = bytearray(zip_of({"a/1.png": b"\0" * 500_000, "a/2.png": b"ok"}))
    for signature, offset in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
        struct.pack_into("<I", data, data.index(signature) + offset, 10)
    found = read(bytes(data))
    assert [member.code for member, _ in found] == ["damaged", ""]


def test_overlapping_zip_members_are_damaged():
    data = bytearray(zip_of({"a/1.png": grey_png(1), "a/2.png": grey_png(2)}))
    second = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 4)
    struct.pack_into("<I", data, second + 42, 0)
    assert read(bytes(data))[1][0].code == "damaged"


def test_one_damaged_zip_member_leaves_the_rest():
    data = bytearray(zip_of(GOOD))
    data[40] ^= 0xFF
    data[60] ^= 0xFF
    found = read(bytes(data))
    assert [member.code for member, _ in found] == ["damaged", ""]
    assert found[1][1] == GOOD["b/2 ü+é.png"]


@KINDS
@pytest.mark.parametrize("share", [0.2, 0.4, 0.6])
def test_a_truncated_archive_is_refused(kind, share):
    data = packed({f"a/{n}.png": grey_png(n, 40) for n in range(8)}, kind)
    cut = data[: int(len(data) * share)]
    with pytest.raises(BadArchive) as caught:
        listed(cut)
    assert "up.zip" in caught.value.reason and caught.value.fix


def test_a_tar_with_a_broken_header_in_the_middle():
    data = bytearray(tar_of({f"a/{n}.png": grey_png(n) for n in range(5)}))
    header = data.index(b"a/3.png")
    data[header : header + 3] = b"zzz"
    with pytest.raises(BadArchive, match="damaged"):
        listed(bytes(data))


def test_a_flipped_bit_in_a_gzip_is_found():
    data = bytearray(tar_of({f"a/{n}.png": grey_png(n) for n in range(5)}, packed=True))
    data[-8] ^= 1
    with pytest.raises(BadArchive, match="damaged"):
        listed(bytes(data))


def test_a_tar_header_that_asks_for_gigabytes():
    info = tarfile.TarInfo("x")
    info.type = tarfile.XHDTYPE
    info.size = 8 * 1024**3
    block = info.tobuf(tarfile.GNU_FORMAT)
    with pytest.raises(BadArchive):
        listed(gzip.compress(block + b"\0" * 4096))


@pytest.mark.parametrize(
    "data", [b"", b"hello world", b"PK\x05\x06" + b"\0" * 18, tar_of({}), gzip.compress(b"a,b\n", mtime=0)]
)
def test_nothing_to_read(data):
    with pytest.raises(BadArchive) as caught:
        listed(data)
    assert "up.zip" in caught.value.reason and caught.value.fix


def test_an_empty_name_in_a_zip_is_junk():
    data = zip_of({"a": b"x", "b/1.png": b"y"})
    end = len(data) - 22
    entry = bytearray(data[:end])
    where = entry.index(b"PK\x01\x02")
    struct.pack_into("<HH", entry, where + 28, 0, 1)
    assert listed(bytes(entry) + data[end:])[0].code == "junk"


@KINDS
@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=False))
def test_random_damage_is_told_and_never_crashes(kind, random):
    data = bytearray(packed({f"a/{n}.png": grey_png(n) for n in range(3)}, kind))
    for _ in range(random.randint(1, 8)):
        data[random.randrange(len(data))] = random.randrange(256)
    try:
        listed(bytes(data))
        read(bytes(data))
    except BadArchive as error:
        assert error.reason and error.fix


def test_names_in_a_tar_that_are_not_utf_8_are_read_as_windows_1252():
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT, encoding="latin-1") as archive:
        for name in ("café/1.png", "../ü.png"):
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    members = listed(file.getvalue())
    assert [(member.name, member.code) for member in members] == [("café/1.png", ""), ("../ü.png", "unsafe_name")]
    assert [member.name for member, _ in read(file.getvalue())] == ["café/1.png", "../ü.png"]
