"""What a name may be, and which dataset and file an uploaded key means."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from shoal_core.data.patterns import pattern_of
from shoal_core.errors import BadName

PREFIX = "datasets/"
CONFIG_FILE = "dataset.yaml"
MISSPELT_CONFIG_FILE = "dataset.yml"
REPLAY_FOLDER = "replay/"
REPLAY_FILE = "replay.yaml"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")
_TEXT_TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json")
_TABLES = (*_TEXT_TABLES, *(table + pack for table in _TEXT_TABLES for pack in (".gz", ".zst")), ".parquet")
_LISTS = (".uris",)
_CONTAINERS = (*_ARCHIVES, *_TABLES, *_LISTS)
# Tables of this name belong to the files beside them.
_LABEL_TABLES = frozenset({"labels", "annotations", "metadata"})


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
        """Whether this one object is a whole dataset: an archive, a table or a list of URIs at the dataset's top.

        A table of labels (`labels.csv`, `annotations.jsonl`, `metadata.csv`) isn't: it belongs to the files beside it.
        """
        name = self.file.casefold()
        return "/" not in name and name.endswith(_CONTAINERS) and not self._is_of_labels

    @property
    def is_list(self) -> bool:
        """Whether this one object lists S3 URIs."""
        return self.is_container and self.file.casefold().endswith(_LISTS)

    @property
    def _is_of_labels(self) -> bool:
        name = self.file.casefold()
        return name.endswith(_TABLES) and name.partition(".")[0] in _LABEL_TABLES

    @property
    def replay(self) -> str | None:
        """The id of the replay that the file belongs to; None for files of the dataset itself."""
        if not self.file.startswith(REPLAY_FOLDER):
            return None
        name, slash, _ = self.file.removeprefix(REPLAY_FOLDER).partition("/")
        return name if slash and name else None

    @property
    def is_replay(self) -> bool:
        """Whether this is the replay.yaml that commits a replay's files."""
        return self.replay is not None and self.file == f"{REPLAY_FOLDER}{self.replay}/{REPLAY_FILE}"


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


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether a file's name matches one of the patterns: `*` and `?` stay within a folder, `**` doesn't."""
    return any(pattern_of(pattern).fullmatch(name) for pattern in patterns)
