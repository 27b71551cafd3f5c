"""The files of one work item, from archives, blocks or loose objects, as they were uploaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from shoal_core.data.archives import judge_name, read_members
from shoal_core.data.images.blocks import read_blocks
from shoal_core.data.images.fetching import read_ahead
from shoal_core.data.images.folders import place_in
from shoal_core.data.images.gathering import Judged
from shoal_core.data.plan import ArchiveSlice, ObjectSlice, Plan
from shoal_core.data.report import DropTally
from shoal_core.data.requests import FileList, open_source, relative_name
from shoal_core.errors import BadInput
from shoal_core.keys import DatasetKeys
from shoal_core.store import ObjectStore


class RawFile(NamedTuple):
    """One file: the source that it is in, its number there, its name in the set and its bytes."""

    source: str
    number: int
    name: str
    data: bytes


def read_files(
    uploads: ObjectStore,
    artifacts: ObjectStore,
    files: FileList,
    plan: Plan,
    number: int,
    judge: Callable[[str, int], Judged],
    drops: DropTally,
) -> Iterator[RawFile]:
    """The files of work item `number` that can be samples, in order.

    Refused ones were counted by planning; members of archives that turn out to be damaged are counted here.

    Args:
        uploads: Where the upload is.
        artifacts: Where re-packed blocks are.
        files: The files of the dataset version.
        plan: Its plan.
        number: Of the work item.
        judge: Whether a file of that name and so many bytes can be a sample.
        drops: Takes damaged members.

    Raises:
        BadInput: The item holds no files.
    """
    item = plan.items[number]
    if isinstance(item, ArchiveSlice):
        return _archive_files(uploads, artifacts, plan, item, judge, drops)
    if isinstance(item, ObjectSlice):
        return _loose_files(uploads, files, plan, item, judge)
    raise BadInput(f"Work item {number} of {plan.dataset!r} holds no files.", "Upload the data again.")


def _archive_files(
    uploads: ObjectStore,
    artifacts: ObjectStore,
    plan: Plan,
    item: ArchiveSlice,
    judge: Callable[[str, int], Judged],
    drops: DropTally,
) -> Iterator[RawFile]:
    file = plan.archives[item.file]
    source = plan.source_name if plan.source else relative_name(file, plan.dataset)
    folder = plan.folders[item.file] if plan.folders else ""
    if item.block is not None:
        keys = DatasetKeys(plan.dataset, plan.version)
        for index, name, data in read_blocks(artifacts, keys, item):
            yield RawFile(source, index, place_in(folder, name), data)
        return
    with open_source(uploads, file) as stream:
        for member, data in read_members(stream, source, file.size, item.first, item.last, item.offset):
            if member.code == "damaged":
                reason = f"{member.name!r}: {member.reason}."
                drops.add(source, place_in(folder, member.name), member.code, reason, member.fix)
            elif not member.code and not judge(member.name, member.size)[0]:
                yield RawFile(source, member.index, place_in(folder, member.name), data)


def _loose_files(
    uploads: ObjectStore, files: FileList, plan: Plan, item: ObjectSlice, judge: Callable[[str, int], Judged]
) -> Iterator[RawFile]:
    chosen = [
        (index, name, file)
        for index, file in enumerate(files.part(item.first, item.last), item.first)
        if not judge_name(name := relative_name(file, plan.dataset))[0] and not judge(name, file.size)[0]
    ]
    contents = read_ahead(uploads, [file for _, _, file in chosen])
    for (index, name, _), data in zip(chosen, contents, strict=True):
        yield RawFile(plan.source_name, index, name, data)
