"""`plan_dataset`: look at an upload once, decide how to encode it, and cut it into work items."""

from __future__ import annotations

from shoal_core.data.archives import ARCHIVE_SUFFIXES
from shoal_core.data.config import DatasetRequest, SourceFile
from shoal_core.data.images.planning import plan_archive, plan_objects
from shoal_core.data.plan import Plan
from shoal_core.data.requests import loose_files, read_request, relative_name
from shoal_core.data.tables.formats import TABLE_SUFFIXES
from shoal_core.data.tables.planning import plan_table
from shoal_core.errors import BadDataset, BadTable
from shoal_core.keys import DatasetKeys
from shoal_core.store import ObjectStore

_PACKED = (".gz", ".bz2", ".xz", ".zst")
_OTHER = (*_PACKED, ".7z", ".rar", ".parquet", ".xlsx", ".xls", ".json", ".txt", ".pdf")


def plan_dataset(uploads: ObjectStore, artifacts: ObjectStore, dataset: str, version: str) -> Plan:
    """Plan a dataset version from its `request.json` and write `plan.json` once; a later call returns that plan.

    Args:
        uploads: Where the uploaded files are.
        artifacts: Where the request is and the plan goes.
        dataset: Name of the dataset.
        version: Its version.

    Raises:
        BadInput: The upload can't become a dataset; the reason names the file and the fix.
        NotFound: No such request or file.
    """
    keys = DatasetKeys(dataset, version)
    if not artifacts.exists(keys.plan):
        request = read_request(artifacts, keys)
        artifacts.write_new(keys.plan, _plan(uploads, request).encode(), "application/json")
    return Plan.decode(artifacts.read(keys.plan))


def _plan(uploads: ObjectStore, request: DatasetRequest) -> Plan:
    files = loose_files(request)
    if not files:
        raise BadDataset(f"Dataset {request.dataset!r} has no files.", "Upload an archive, a table or image folders.")
    if len(files) == 1:
        return _plan_file(uploads, request, files[0])
    for file in files:
        if _kind(file.key) in ("archive", "table", "packed table"):
            name = relative_name(file, request.dataset)
            raise BadDataset(
                f"Dataset {request.dataset!r} has {name!r} and {len(files) - 1} more files.",
                "Upload one archive, or one table, or loose images in class folders.",
            )
    return plan_objects(uploads, request, files)


def _plan_file(uploads: ObjectStore, request: DatasetRequest, file: SourceFile) -> Plan:
    kind = _kind(file.key)
    name = relative_name(file, request.dataset)
    if kind == "archive":
        return plan_archive(uploads, request, file, name)
    if kind == "table":
        return plan_table(uploads, request, file, name)
    if kind == "packed table":
        raise BadTable(f"{name!r} is a compressed table.", "Unpack it and upload the CSV or JSONL file itself.")
    if kind == "other":
        raise BadDataset(f"{name!r} is of a kind that can't be read.", "Upload zip, tar, tar.gz, CSV or JSONL.")
    return plan_objects(uploads, request, [file])


def _kind(key: str) -> str:
    name = key.casefold()
    if name.endswith(ARCHIVE_SUFFIXES):
        return "archive"
    if name.endswith(TABLE_SUFFIXES):
        return "table"
    if name.endswith(tuple(f"{suffix}{pack}" for suffix in TABLE_SUFFIXES for pack in _PACKED)):
        return "packed table"
    return "other" if name.endswith(_OTHER) else "loose"
