"""Planning and reading jobs of files: images or texts, loose and in archives, in order, every one a record."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field

from shoal_core.data.archives import Member, archive_format, judge_name, list_members, read_members, unpack_members
from shoal_core.data.canonical import canonical_json
from shoal_core.data.config import SourceFile
from shoal_core.data.images.blocks import BlockWriter, read_blocks
from shoal_core.data.images.fetching import read_ahead
from shoal_core.data.images.folders import judge_image_name, place_in
from shoal_core.data.images.gathering import MEMBER_COST, is_archive_name
from shoal_core.data.plan import ArchiveSlice, ObjectSlice
from shoal_core.data.requests import FileList, open_source
from shoal_core.data.texts.decoding import judge_text_name
from shoal_core.errors import BadInput
from shoal_core.serving.batches.counting import cut_pieces
from shoal_core.serving.batches.plan import BatchPlan, Piece
from shoal_core.serving.batches.request import BatchRequest
from shoal_core.store import ObjectStore

MAX_FILE_BYTES = 64 * 1024**2
# Hidden names aren't records, so none of a re-packed archive's own can begin like this.
_REFUSED = ".shoal-refused/"
_LOOSE = -1


@dataclass(frozen=True)
class FileRecord:
    """One file of a job: its bytes, or (`code` set) why it can't be answered."""

    name: str
    data: bytes = b""
    code: str = ""
    reason: str = ""
    fix: str = ""


@dataclass
class _Found:
    """The records of a job in compact columns: a row per record."""

    sources: array[int] = field(default_factory=lambda: array("i"))
    indices: array[int] = field(default_factory=lambda: array("q"))
    offsets: array[int] = field(default_factory=lambda: array("q"))
    blocks: array[int] = field(default_factory=lambda: array("i"))
    weights: array[int] = field(default_factory=lambda: array("q"))

    def add(self, source: int, index: int, size: int, offset: int = 0, block: int = -1) -> None:
        self.sources.append(source)
        self.indices.append(index)
        self.offsets.append(offset)
        self.blocks.append(block)
        self.weights.append(size + MEMBER_COST)


def gather_files(
    uploads: ObjectStore, artifacts: ObjectStore, request: BatchRequest, files: FileList, most: int
) -> tuple[list[SourceFile], tuple[Piece, ...]]:
    """The archives of a job, and its pieces; what is in a tar.gz is re-packed into blocks.

    Args:
        uploads: Where the files are.
        artifacts: Where blocks go.
        request: The job.
        files: Its files.
        most: Records of a piece, at most.

    Raises:
        BadArchive: An archive that can't be trusted as a whole.
    """
    found, archives, block = _Found(), list[SourceFile](), 0
    for index, file in enumerate(files):
        name = file.name or file.key
        if not is_archive_name(name):
            if judge_name(name)[0] != "junk":
                found.add(_LOOSE, index, min(file.size, MAX_FILE_BYTES))
            continue
        archives.append(file)
        with open_source(uploads, file) as stream:
            if archive_format(stream, name) == "tar.gz":
                writer = BlockWriter(artifacts, request.keys, block)
                for number, (label, data) in enumerate(_repacked(unpack_members(stream, name, file.size))):
                    place, offset = writer.add(label, data)
                    found.add(len(archives) - 1, number, len(data), offset, place)
                block = writer.close()
            else:
                for member in list_members(stream, name, file.size):
                    if not member.junk:
                        found.add(len(archives) - 1, member.index, member.size, member.offset)
    if not found.weights:
        raise BadInput(f"{files[0].name!r} holds hidden files only.", "Pack the files themselves.")
    weights = found.weights.tolist()
    cuts = cut_pieces(request, found.sources, weights, len(weights), most)
    return archives, tuple(_piece(found, start, stop) for start, stop in cuts)


def _repacked(members: Iterator[tuple[Member, bytes]]) -> Iterator[tuple[str, bytes]]:
    """Names and bytes for blocks: of a refused member, the name says what is wrong with it."""
    for member, data in members:
        if member.junk:
            continue
        if member.code:
            told = {"name": member.name, "code": member.code, "reason": member.reason, "fix": member.fix}
            yield _REFUSED + canonical_json(told).decode(), b""
        else:
            yield member.name, data


def _piece(found: _Found, start: int, stop: int) -> Piece:
    source, first, last = found.sources[start], found.indices[start], found.indices[stop - 1] + 1
    if source == _LOOSE:
        return ObjectSlice(first=first, last=last)
    block = found.blocks[start]
    return ArchiveSlice(
        file=source, first=first, last=last, offset=found.offsets[start], block=None if block < 0 else block
    )


def read_files(
    uploads: ObjectStore, artifacts: ObjectStore, plan: BatchPlan, piece: Piece, files: FileList
) -> Iterator[FileRecord]:
    """The records of a piece, in order; memory is bounded by what is read ahead."""
    judge = judge_image_name if plan.kind == "images" else judge_text_name
    if isinstance(piece, ArchiveSlice):
        several = len(plan.sources) > 1 or plan.files > 1
        folder = plan.sources[piece.file].name or "" if several else ""
        found = _of_archive(uploads, artifacts, plan, piece)
        records: Iterator[FileRecord] = (_with_name(record, place_in(folder, record.name)) for record in found)
    elif isinstance(piece, ObjectSlice):
        records = _of_objects(uploads, files, piece)
    else:
        raise BadInput(f"A piece of job {plan.job!r} holds no files.", "Upload the data again.")
    for record in records:
        code, reason, fix = judge(record.name) if not record.code else ("", "", "")
        yield FileRecord(record.name, b"", code, reason, fix) if code else record


def _with_name(record: FileRecord, name: str) -> FileRecord:
    return record if record.name == name else FileRecord(name, record.data, record.code, record.reason, record.fix)


def _of_archive(
    uploads: ObjectStore, artifacts: ObjectStore, plan: BatchPlan, piece: ArchiveSlice
) -> Iterator[FileRecord]:
    if piece.block is not None:
        for _, name, data in read_blocks(artifacts, plan.keys, piece):
            refused = name.startswith(_REFUSED)
            yield FileRecord(**json.loads(name.removeprefix(_REFUSED))) if refused else FileRecord(name, data)
        return
    file = plan.sources[piece.file]
    with open_source(uploads, file) as stream:
        for member, data in read_members(stream, file.name or "", file.size, piece.first, piece.last, piece.offset):
            if not member.junk:
                yield FileRecord(member.name, data, member.code, member.reason, member.fix)


def _of_objects(uploads: ObjectStore, files: FileList, piece: ObjectSlice) -> Iterator[FileRecord]:
    chosen = [file for file in files.part(piece.first, piece.last) if _is_record(file)]
    contents = read_ahead(uploads, [file for file in chosen if file.size <= MAX_FILE_BYTES])
    for file in chosen:
        name = file.name or file.key
        if file.size > MAX_FILE_BYTES:
            reason = f"it has {file.size:,} bytes, more than {MAX_FILE_BYTES:,}"
            yield FileRecord(name, b"", "too_large", reason, "Make it smaller before uploading.")
        else:
            yield FileRecord(name, next(contents))


def _is_record(file: SourceFile) -> bool:
    name = file.name or file.key
    return not is_archive_name(name) and judge_name(name)[0] != "junk"
