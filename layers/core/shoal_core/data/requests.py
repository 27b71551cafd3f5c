"""The request that a dataset version starts from, and the names of its files."""

from __future__ import annotations

from shoal_core.data.config import DatasetRequest, SourceFile
from shoal_core.errors import BadInput
from shoal_core.keys import DatasetKeys
from shoal_core.store import ObjectStore

CONFIG_NAMES = ("dataset.yaml", "dataset.yml")


def read_request(artifacts: ObjectStore, keys: DatasetKeys) -> DatasetRequest:
    """The request of a dataset version. Raises `NotFound`, or `BadInput` when it can't be read."""
    try:
        return DatasetRequest.model_validate_json(artifacts.read(keys.request))
    except ValueError as error:
        raise BadInput(f"The request {keys.request!r} can't be read: {error}.", "Upload the data again.") from error


def relative_name(file: SourceFile, dataset: str) -> str:
    """A file's name within its dataset: the key without `datasets/<name>/`."""
    return file.key.removeprefix(f"datasets/{dataset}/")


def loose_files(request: DatasetRequest) -> list[SourceFile]:
    """The request's files in the order of their keys, without `dataset.yaml` and folder markers."""
    files = [
        file
        for file in request.files
        if relative_name(file, request.dataset) not in CONFIG_NAMES and not file.key.endswith("/")
    ]
    return sorted(files, key=lambda file: file.key.encode("utf-8", "replace"))
