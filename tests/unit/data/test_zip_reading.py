import io
import random as randomness
import struct
import zipfile
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal_core.data.archive_members import LIMITS, Limits, judge_name
from shoal_core.data.archives import list_members, read_members
from shoal_core.errors import BadArchive

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0/\\"), min_size=1, max_size=12)
MEMBERS = st.dictionaries(
    st.builds("{}/{}".format, NAMES, NAMES), st.one_of(st.binary(max_size=60), st.just(bytes(3000))), max_size=12
)


class Pipe(io.RawIOBase):
    """A file that can't be sought in: zipfile then writes data descriptors."""

    def __init__(self) -> None:
        self.data = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:
        self.data += data
        return len(data)


def packed(
    members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED, comment: bytes = b"", **options: object
) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in members.items():
            with archive.open(zipfile.ZipInfo(name), "w", **options) as member:
                member.write(data)
        archive.comment = comment
    return file.getvalue()


def everything(data: bytes) -> dict[str, bytes]:
    stream = io.BytesIO(data)
    return {
        member.name: content for member, content in read_members(stream, "a", len(data), 0, 1000) if not member.code
    }


@settings(max_examples=150, deadline=None)
@given(MEMBERS, st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]), st.data())
def test_members_are_those_of_zipfile_however_they_are_sliced(members, method, data):
    members = {name: content for name, content in members.items() if not judge_name(name)[0]}
    if not members:
        return
    archive = packed(members, method)
    stream = io.BytesIO(archive)
    listed = list(list_members(stream, "a", len(archive)))
    with zipfile.ZipFile(io.BytesIO(archive)) as reference:
        assert [(member.name, member.size) for member in listed] == [
            (info.filename, info.file_size) for info in reference.infolist()
        ]
    first = data.draw(st.integers(0, len(members) - 1))
    last = data.draw(st.integers(first, len(members)))
    found = list(read_members(stream, "a", len(archive), first, last, listed[first].offset))
    assert [content for _, content in found] == list(members.values())[first:last]
    wanted = {member.index: member.offset for member in listed[first:last:2]}
    some = read_members(stream, "a", len(archive), first, last, listed[first].offset, wanted)
    assert [content for _, content in some] == list(members.values())[first:last:2]


def test_data_descriptors_and_zip64_sizes():
    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/1.png", b"x" * 5000)
        archive.writestr("a/2.png", b"y")
    assert everything(bytes(pipe.data)) == {"a/1.png": b"x" * 5000, "a/2.png": b"y"}
    assert everything(packed({"a/1.png": b"z" * 99}, force_zip64=True)) == {"a/1.png": b"z" * 99}


def test_zip64_records():
    """A directory that tells all sizes and places in Zip64 fields, and an end that tells nothing."""
    archive = zipfile.ZipFile(io.BytesIO(data := packed({"a/1.png": b"abc", "a/2.png": b"de"})))
    start = archive.start_dir
    directory, stop = b"", start
    for info in archive.infolist():
        name = info.filename.encode()
        extra = struct.pack("<HHQQQ", 1, 24, info.file_size, info.compress_size, info.header_offset)
        size = 46 + len(name) + len(info.extra)
        entry = bytearray(data[stop : stop + 46])
        stop += size
        struct.pack_into("<II", entry, 20, 0xFFFFFFFF, 0xFFFFFFFF)
        struct.pack_into("<HH", entry, 28, len(name), len(extra))
        struct.pack_into("<I", entry, 42, 0xFFFFFFFF)
        directory += bytes(entry) + name + extra
    record = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, 2, 2, len(directory), start)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, start + len(directory), 1)
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    made = data[:start] + directory + record + locator + end
    with zipfile.ZipFile(io.BytesIO(made)) as reference:
        assert reference.read("a/1.png") == b"abc"
    assert everything(made) == {"a/1.png": b"abc", "a/2.png": b"de"}
    with pytest.raises(BadArchive, match="Zip64"):
        everything(made.replace(b"PK\6\6", b"PK\6\0"))
    broken = made.replace(struct.pack("<HH", 1, 24), struct.pack("<HH", 1, 4))
    with pytest.raises(BadArchive, match="damaged"):
        everything(broken)


def test_a_comment_that_holds_the_mark_of_the_end():
    """Python's zipfile takes the comment for the end."""
    assert everything(packed({"a/1.png": b"abc"}, comment=b"PK\5\6 is no end")) == {"a/1.png": b"abc"}


def test_an_archive_behind_a_prefix():
    data = packed({"a/1.png": b"abc"})
    assert everything(b"PK\3\4" + bytes(1000) + data) == {"a/1.png": b"abc"}


def test_names_of_old_tools():
    data = packed({"a/caf\u00e9.png": b"x"})
    raw = "a/caf\u00e9.png".encode()
    old = data.replace(raw, "a/caf\u00e9 png".encode("cp437") + b" ")
    old = old.replace(b"\0\x08", b"\0\0", 0)
    flagged = bytearray(old)
    for mark, place in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        flagged[flagged.index(mark) + place + 1] &= ~8
    assert list(everything(bytes(flagged))) == ["a/caf\u00e9 png "]


def test_members_that_share_their_bytes_are_a_bomb():
    """Fifield's bomb in its simplest form: many entries of the directory for one member."""
    data = packed({"a/1.png": randomness.Random(0).randbytes(20_000)})
    start = zipfile.ZipFile(io.BytesIO(data)).start_dir
    entry = data[start : data.rindex(b"PK\5\6")]
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 50, 50, 50 * len(entry), start, 0)
    bomb = data[:start] + entry * 50 + end
    with pytest.raises(BadArchive, match="overlap"):
        list(list_members(io.BytesIO(bomb), "a", len(bomb)))


@pytest.mark.parametrize("size", [0, 10, 2_999_999, 3_000_001, 0x7FFFFFFF])
def test_a_lie_about_the_size_of_a_bomb_is_damage_in_bounded_memory(size):
    data = bytearray(packed({"a/1.png": bytes(3_000_000)}))
    place = data.index(b"PK\1\2")
    struct.pack_into("<I", data, place + 24, size)
    found = list(read_members(io.BytesIO(data), "a", len(data), 0, 1))
    assert [(member.code, content) for member, content in found] == [
        ("too_large" if size > LIMITS.member_bytes else "damaged", b"")
    ]


def test_a_lie_about_the_packed_size_reads_little():
    data = bytearray(packed({"a/1.png": b"abc"}))
    struct.pack_into("<I", data, data.index(b"PK\1\2") + 20, 0xFFFFFFF0)
    asked: list[int] = []

    class Stream(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            asked.append(size or -1)
            return super().read(size)

    assert [member.code for member, _ in read_members(Stream(data), "a", len(data), 0, 1)] == ["damaged"]
    assert min(asked) > 0 and max(asked) <= 4 << 20


def test_a_member_whose_own_header_has_another_name_is_damaged():
    data = bytearray(packed({"a/1.png": b"same", "a/2.png": b"same"}))
    second = data.rindex(b"PK\1\2")
    struct.pack_into("<I", data, second + 42, 0)
    found = read_members(io.BytesIO(data), "a", len(data), 0, 2)
    assert [member.code for member, _ in found] == ["", "damaged"]


def test_large_members_are_inflated_within_their_size():
    content = randomness.Random(1).randbytes(200_000) + bytes(100_000)
    assert everything(packed({"a/1.png": content, "a/2.png": b"end"})) == {"a/1.png": content, "a/2.png": b"end"}


def test_several_disks_and_directories_outside_the_file():
    data = packed({"a/1.png": b"abc"})
    end = data.rindex(b"PK\5\6")
    for place, value, words in ((4, 1, "several parts"), (12, 0x7FFFFFFF, "outside"), (12, 20, "damaged")):
        broken = bytearray(data)
        struct.pack_into("<H" if place == 4 else "<I", broken, end + place, value)
        with pytest.raises(BadArchive, match=words):
            everything(bytes(broken))


def test_a_checksum_that_is_wrong():
    data = packed({"a/1.png": b"abc", "a/2.png": b"def"}, zipfile.ZIP_STORED)
    assert everything(data.replace(b"abc", b"abd")) == {"a/2.png": b"def"}
    assert zlib.crc32(b"abc") != zlib.crc32(b"abd")


def test_a_directory_longer_than_a_block():
    members = {f"{index:05d}/{'x' * 200}.png": b"" for index in range(6000)}
    data = packed(members, zipfile.ZIP_STORED)
    listed = list(list_members(io.BytesIO(data), "a", len(data), Limits()))
    assert [member.name for member in listed] == list(members)
    tail = list(read_members(io.BytesIO(data), "a", len(data), 5990, 6000, listed[5990].offset))
    assert [member.name for member, _ in tail] == list(members)[5990:]
