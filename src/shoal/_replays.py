"""Replays: a dataset version once more, with mended samples in the place of the bad ones, or as it is.

The files go to `datasets/<name>/replay/<id>/`, then a `replay.yaml` that names the version commits them: a file takes
the place of the version's file of the same name, or is added.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from shoal._quarantine import LIST
from shoal.connection import Connection, aws_error
from shoal.errors import BadRequest
from shoal.uploads import Stored, check_name

REPLAY = "replay.yaml"
_LEFT_OUT = frozenset({LIST, REPLAY, "dataset.yaml", "dataset.yml"})


@dataclass(frozen=True)
class Replay:
    """What to put where: name within the dataset -> local file."""

    dataset: str
    version: str
    files: dict[str, Path]

    @property
    def identity(self) -> str:
        """The replay's id: of its files' bytes; new each time where there are none, since that asks to run again."""
        if not self.files:
            return uuid.uuid4().hex[:12]
        digest = hashlib.sha256(self.version.encode())
        for name, path in sorted(self.files.items()):
            digest.update(f"\n{name}\n".encode())
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()[:12]


def plan_replay(dataset: str, version: str, paths: Sequence[Path]) -> Replay:
    """Decide what paths mean.

    Args:
        dataset: The dataset's name.
        version: The version to replay.
        paths: Files, which go by their names, and folders, whose files go by their names below them.

    Raises:
        BadRequest: A path doesn't exist, a folder holds nothing, or two files have one name.
    """
    files: dict[str, Path] = {}
    for path in paths:
        if not path.exists():
            raise BadRequest(
                f"{path} doesn't exist.", "Name mended files, or the folder of `shoal quarantine --download`."
            )
        found = {path.name: path} if path.is_file() else _files_below(path)
        twice = sorted(found.keys() & files.keys())
        if twice:
            raise BadRequest(f"Two files are called {twice[0]!r}.", "Put them into one folder, under different names.")
        files |= found
    if paths and not files:
        raise BadRequest(f"{paths[0]} holds no files.", "Name mended files; leave them out to run the version again.")
    return Replay(check_name(dataset), version, files)


def put_replay(connection: Connection, replay: Replay) -> Stored:
    """Upload the files, then the replay.yaml that commits them; (key, version id) of that.

    Raises:
        ConnectionFailed, NotAuthorised, NotFound, ServiceFailed: What S3 answered.
        BadRequest: A file can't be read.
    """
    prefix = f"datasets/{replay.dataset}/replay/{replay.identity}/"
    try:
        for name, path in replay.files.items():
            connection.s3.upload_file(str(path), connection.bucket, prefix + name)
        text = f"version: '{replay.version}'\n".encode()
        answer: dict[str, Any] = connection.s3.put_object(Bucket=connection.bucket, Key=prefix + REPLAY, Body=text)
    except (ClientError, BotoCoreError) as error:
        raise aws_error(error, f"bucket {connection.bucket!r}") from error
    except OSError as error:
        raise BadRequest(f"{error.filename} can't be read: {error.strerror}.", "Check the file.") from error
    return prefix + REPLAY, answer.get("VersionId")


def _files_below(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in relative.parts)
        if path.is_file() and not hidden and relative.as_posix() not in _LEFT_OUT:
            found[relative.as_posix()] = path
    return found
