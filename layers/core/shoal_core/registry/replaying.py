"""A replay: a version's files with some of them mended, or its run once more.

`datasets/<name>/replay/<id>/replay.yaml` names the version; every file beside it takes the place of the file of the
same name, or is added.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated

from pydantic import Field, ValidationError

from shoal_core.data.config import MAX_CONFIG_BYTES, DatasetRequest, SourceFile
from shoal_core.data.requests import FileList, read_request, relative_name
from shoal_core.errors import BadConfig, BadDataset, NotFound
from shoal_core.frozen import Frozen
from shoal_core.keys import DatasetKeys
from shoal_core.registry.file_sets import FileSet, ListingWriter, read_set
from shoal_core.store import ObjectStore

MAX_MENDED = 10_000


class ReplayConfig(Frozen):
    """`replay.yaml`: the version that is mended."""

    version: Annotated[str, Field(pattern=r"^[0-9a-f]{12}$", strict=True)]


def parse_replay(data: bytes, key: str) -> ReplayConfig:
    """Read `replay.yaml`. Raises `BadConfig`."""
    import yaml  # as in parse_config

    fix = "Write one line: `version: '0123456789ab'`, with a version that `shoal dataset NAME` lists."
    if len(data) > MAX_CONFIG_BYTES:
        raise BadConfig(f"{key!r} has {len(data):,} bytes.", fix)
    try:
        return ReplayConfig.model_validate(yaml.safe_load(data.decode("utf-8-sig")))
    except (UnicodeDecodeError, yaml.YAMLError, ValidationError, ValueError) as error:
        raise BadConfig(f"{key!r} names no version.", fix) from error


def replayed_request(artifacts: ObjectStore, dataset: str, version: str, key: str) -> DatasetRequest:
    """The request of the version that is mended. Raises `BadConfig` when there is none."""
    try:
        return read_request(artifacts, DatasetKeys(dataset, version))
    except NotFound as error:
        raise BadConfig(
            f"{key!r}: dataset {dataset!r} has no version {version!r}.", "See `shoal dataset NAME` for its versions."
        ) from error


def mended_set(
    artifacts: ObjectStore,
    request: DatasetRequest,
    mended: dict[str, SourceFile],
    fingerprint: Callable[[str, str | None], SourceFile],
) -> FileSet:
    """The version's files, with the mended ones in the place of those of the same name, and the rest added.

    Args:
        artifacts: Where listings are and go.
        request: The version's request.
        mended: Name within the dataset -> file, at most 10,000.
        fingerprint: Reads one file (key, S3 version) and tells its sha256.

    Raises:
        BadDataset: More than 10,000 files.
    """
    if len(mended) > MAX_MENDED:
        raise BadDataset(
            f"The replay of dataset {request.dataset!r} has more than {MAX_MENDED:,} files.",
            "Upload them as files of the dataset and write dataset.yaml again.",
        )
    files = FileList(artifacts, request)
    if request.listing is None and all(file.sha256 for file in files):
        read = {
            name: fingerprint(file.key, file.version).model_copy(update={"name": name}) for name, file in mended.items()
        }
        return read_set(request.dataset, list(_merged(files, read, request.dataset)))
    writer = ListingWriter(artifacts, request.dataset)
    named = {name: file.model_copy(update={"name": name}) for name, file in mended.items()}
    for file in _merged(files, named, request.dataset):
        writer.add(file)
    return writer.finish()


def _merged(files: FileList, mended: dict[str, SourceFile], dataset: str) -> Iterator[SourceFile]:
    """Both in the order of their names; where both have a name, the mended one."""
    waiting = sorted(mended.items(), key=lambda item: _order(item[0]), reverse=True)
    for file in files:
        name = relative_name(file, dataset)
        while waiting and _order(waiting[-1][0]) < _order(name):
            yield waiting.pop()[1]
        if waiting and waiting[-1][0] == name:
            yield waiting.pop()[1]
        else:
            yield file
    while waiting:
        yield waiting.pop()[1]


def _order(name: str) -> bytes:
    return name.encode("utf-8", "replace")
