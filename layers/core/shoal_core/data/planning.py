"""`plan_dataset`: look at an upload once, decide how to encode it, and cut it into work items."""

from __future__ import annotations

import posixpath

from shoal_core.data.archives import ARCHIVE_SUFFIXES
from shoal_core.data.backbones import Production, adopted, following, no_models, read_backbone
from shoal_core.data.config import DatasetRequest, SourceFile
from shoal_core.data.images.folders import is_image_name
from shoal_core.data.images.planning import plan_images
from shoal_core.data.plan import Plan
from shoal_core.data.quality.planned import check_expected
from shoal_core.data.requests import FileList, read_request, relative_name
from shoal_core.data.sequences.planning import plan_sequences
from shoal_core.data.tables.formats import TABLE_SUFFIXES
from shoal_core.data.tables.planning import plan_tables
from shoal_core.data.texts.planning import holds_texts, plan_texts
from shoal_core.errors import BadConfig, BadDataset
from shoal_core.keys import DatasetKeys
from shoal_core.store import ObjectStore

_OTHER = (".gz", ".bz2", ".xz", ".zst", ".7z", ".rar", ".xlsx", ".xls", ".txt", ".pdf")
# Files that writers of data lakes leave beside tables, and those that systems hide.
_MARKS = ("_", ".")


def plan_dataset(
    uploads: ObjectStore, artifacts: ObjectStore, dataset: str, version: str, production: Production = no_models
) -> Plan:
    """Plan a dataset version from its `request.json` and write `plan.json` once; a later call returns that plan.

    Args:
        uploads: Where the uploaded files are.
        artifacts: Where the request is and the plan goes.
        dataset: Name of the dataset.
        version: Its version.
        production: Gives the version of a model that serves, for a backbone.

    Raises:
        BadInput: The upload can't become a dataset; the reason names the file and the fix.
        NotFound: No such request or file.
    """
    keys = DatasetKeys(dataset, version)
    if not artifacts.exists(keys.plan):
        request = read_request(artifacts, keys)
        plan = _plan_for(uploads, artifacts, request, production)
        check_expected(plan)
        artifacts.write_new(keys.plan, plan.encode(), "application/json")
    return Plan.decode(artifacts.read(keys.plan))


def _plan_for(uploads: ObjectStore, artifacts: ObjectStore, request: DatasetRequest, production: Production) -> Plan:
    """The plan, fitted to the backbone that the settings name, if they name one."""
    asked = request.config
    if not asked.uses_backbone:
        return _plan(uploads, artifacts, request)
    backbone = read_backbone(artifacts, asked.backbone, production)
    fitted = request.model_copy(update={"config": following(asked, backbone)})
    try:
        return adopted(_plan(uploads, artifacts, fitted), asked, backbone)
    except BadConfig as error:
        # What is refused may be what was set for the backbone's sake.
        takes = "images" if backbone.image is not None else "texts"
        raise BadConfig(f"{error.reason} Backbone {backbone.reference!r} takes {takes}.", error.fix) from error


def _plan(uploads: ObjectStore, artifacts: ObjectStore, request: DatasetRequest) -> Plan:
    files = FileList(artifacts, request)
    if not files:
        raise BadDataset(f"Dataset {request.dataset!r} has no files.", "Upload an archive, a table or image folders.")
    if holds_texts(uploads, files, request.dataset):
        return plan_texts(uploads, artifacts, request, files)
    if any(_kind(file.key) == "archive" or is_image_name(file.key) for file in files):
        return plan_images(uploads, artifacts, request, files)
    tables, rest = _tables(files)
    if tables and not rest:
        plan = plan_tables if request.config.sequence is None else plan_sequences
        return plan(uploads, artifacts, request, tables)
    if rest or len(files) == 1:
        strange = next((file for file in (*rest, files[0]) if _kind(file.key) == "other"), None)
        if strange is not None:
            raise BadDataset(
                f"{relative_name(strange, request.dataset)!r} is of a kind that can't be read.",
                "Upload zip, tar, tar.gz, CSV, JSONL, JSON or Parquet (also .csv.gz, .jsonl.zst and so on).",
            )
    if tables:
        name = relative_name(tables[0], request.dataset)
        raise BadDataset(
            f"Dataset {request.dataset!r} has {name!r} and {len(files) - 1} more files that aren't all tables.",
            "Upload archives, or tables, or loose images in class folders.",
        )
    return plan_images(uploads, artifacts, request, files)


def _tables(files: FileList) -> tuple[list[SourceFile], list[SourceFile]]:
    """The tables, and what else there is; empty files and marks beside tables, such as `_SUCCESS`, aren't counted."""
    tables = [file for file in files if _kind(file.key) == "table"]
    if not tables:
        return [], []
    names = ((file, posixpath.basename(file.key)) for file in files if _kind(file.key) != "table")
    return tables, [file for file, name in names if not name.startswith(_MARKS) and file.size]


def _kind(key: str) -> str:
    name = key.casefold()
    if name.endswith(ARCHIVE_SUFFIXES):
        return "archive"
    if name.endswith(TABLE_SUFFIXES):
        return "table"
    return "other" if name.endswith(_OTHER) else "loose"
