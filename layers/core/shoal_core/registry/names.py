"""What a name may be, and which dataset and file an uploaded key means."""

from __future__ import annotations

import re
from dataclasses import dataclass

from shoal_core.errors import BadName

PREFIX = "datasets/"
CONFIG_FILE = "dataset.yaml"
MISSPELT_CONFIG_FILE = "dataset.yml"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_CONTAINERS = (".zip", ".tar", ".tar.gz", ".tgz", ".csv", ".tsv", ".jsonl", ".ndjson")


def check_name(name: str, what: str = "dataset") -> str:
    """The name itself, if it can serve in keys, URLs and execution names. Raises `BadName`."""
    if not _NAME.fullmatch(name):
        shown = name if len(name) <= 80 else f"{name[:77]}..."
        raise BadName(
            f"The {what} name {shown!r} isn't allowed.",
            "Use 1 to 64 letters, digits, '.', '_' or '-', beginning with a letter or digit.",
        )
    return name


@dataclass(frozen=True)
class UploadKey:
    """`datasets/<name>/<file>` taken apart. `file` may hold further slashes."""

    dataset: str
    file: str

    @property
    def is_config(self) -> bool:
        """Whether this is the dataset.yaml that commits a set of loose files."""
        return self.file == CONFIG_FILE

    @property
    def is_container(self) -> bool:
        """Whether this one object is a whole dataset: an archive or a table at the top of the dataset's prefix."""
        return "/" not in self.file and self.file.lower().endswith(_CONTAINERS)


def parse_upload_key(key: str) -> UploadKey | None:
    """The dataset and file that an uploaded key means; None for folder markers and keys outside `datasets/`.

    Raises:
        BadName: the key is `datasets/<file>` without a dataset's name, or the name isn't allowed.
    """
    if not key.startswith(PREFIX) or key.endswith("/"):
        return None
    name, slash, file = key[len(PREFIX) :].partition("/")
    if not slash:
        raise BadName(
            f"The upload {key[:200]!r} has no dataset name.", f"Upload it to datasets/NAME/{name[:100]} instead."
        )
    return UploadKey(check_name(name), file)
