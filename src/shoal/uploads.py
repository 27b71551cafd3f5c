"""What a path means as an upload, and putting it into the bucket.

An archive or a table is one object, which starts a run as soon as it is there; so settings go before it. Loose files
wait for `dataset.yaml`, which commits them; so it goes last.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

import yaml
from boto3.exceptions import S3UploadFailedError
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import BotoCoreError, ClientError

from shoal._models import IMAGE_TYPES
from shoal._settings import NOTHING_ASKED, config_bytes, fields_of
from shoal.connection import Connection, aws_error
from shoal.errors import BadRequest, ConnectionFailed, ShoalError

CONFIG = "dataset.yaml"
BATCH_CONFIG = "batch.yaml"
ARCHIVE_SUFFIXES = (".tar.gz", ".tgz", ".tar", ".zip")
_TEXT_TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json")
TABLE_SUFFIXES = (*(table + pack for table in _TEXT_TABLES for pack in (".gz", ".zst", "")), ".parquet")
LIST_SUFFIX = ".uris"
# The longest first, so that `.csv.gz` is found before `.gz` could be.
SUFFIXES = (*ARCHIVE_SUFFIXES, *TABLE_SUFFIXES, LIST_SUFFIX)
TEXT_SUFFIX = ".txt"
LOOSE_SUFFIXES = (TEXT_SUFFIX, *TABLE_SUFFIXES)
LABEL_TABLES = frozenset({"labels", "annotations", "metadata"})
INNER_FOLDER = "files/"
SOURCES = ("s3://", "dynamodb://")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
MAX_NAME = 64
SINGLE_PUT_BYTES = 16 * 1024 * 1024
PARALLEL_PUTS = 8

OnUpload = Callable[[int, int], None]
Stored = tuple[str, str | None]
"""An object's (key, version id); the version is None in a bucket without versions."""


@dataclass(frozen=True)
class Placed:
    """What a push came to in the bucket: objects written now, and objects that had the same bytes before."""

    written: frozenset[Stored]
    kept: frozenset[Stored] = frozenset()


@dataclass(frozen=True)
class Upload:
    """What to put where.

    Args:
        dataset: The dataset's name.
        files: Key in the bucket -> local file.
        config: Bytes of dataset.yaml; None when nothing was asked for.
        loose: Whether the files wait for dataset.yaml.
        source: What the cloud reads itself; empty for files that are uploaded.
        batch: `MODEL/JOB` of records to be answered; None for a dataset.
    """

    dataset: str
    files: Mapping[str, Path]
    config: bytes | None
    loose: bool
    source: str = ""
    batch: str | None = None

    @property
    def config_key(self) -> str:
        """Where dataset.yaml, or batch.yaml, goes."""
        return f"datasets/{self.dataset}/{CONFIG}" if self.batch is None else f"batch/{self.batch}/{BATCH_CONFIG}"


def _suffix(path: Path) -> str:
    """The suffix of a file that is a whole dataset, or ''."""
    lower = path.name.lower()
    return next((suffix for suffix in SUFFIXES if lower.endswith(suffix)), "")


def check_name(name: str) -> str:
    """The name itself, when it can be a dataset's. Raises `BadRequest` otherwise."""
    if not NAME.fullmatch(name):
        raise BadRequest(
            f"{name!r} can't be a dataset's name.",
            f"Use letters, digits, dots, dashes and underscores, at most {MAX_NAME}, a letter or digit first.",
        )
    return name


def clean_name(path: Path) -> str:
    """A dataset's name made from a file's or folder's: what isn't allowed becomes a dash."""
    stem = path.name[: len(path.name) - len(_suffix(path))] if path.is_file() else path.name
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._")[:MAX_NAME].rstrip("-._")
    if not name:
        raise BadRequest(f"{path.name!r} gives no dataset name.", "Name it: --name NAME.")
    return name


def plan_upload(
    path: Path, *, name: str | None = None, config: Path | None = None, settings: Mapping[str, Any] | None = None
) -> Upload:
    """Decide what a path means.

    Args:
        path: An archive, a table, a list of S3 URIs, or a folder of images, texts or tables.
        name: The dataset's name; made from the path's when None.
        config: A dataset.yaml to use; else the one in the folder, if any.
        settings: Fields of dataset.yaml that go over those of the file.

    Raises:
        BadRequest: The path, the name or a setting can't be used.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise BadRequest(f"{path} doesn't exist.", "Name an archive, a table or a folder.")
    path = path.resolve()  # so that "." has a name
    dataset = check_name(name) if name is not None else clean_name(path)
    if path.is_dir():
        return _plan_folder(path, dataset, config, settings or {})
    if not _suffix(path):
        raise BadRequest(
            f"{path.name} is neither an archive nor a table.",
            f"Give a folder, or a file ending in {', '.join(sorted(SUFFIXES))}.",
        )
    data = config_bytes(config, settings or {})
    return Upload(dataset, {f"datasets/{dataset}/{path.name}": path}, data, loose=not _starts(path.name))


def plan_source(uri: str, *, name: str | None = None, settings: Mapping[str, Any] | None = None) -> Upload:
    """The dataset.yaml that has a source read: `s3://BUCKET/PREFIX` or `dynamodb://TABLE`.

    Raises:
        BadRequest: The URI, the name or a setting can't be used.
    """
    scheme, _, rest = uri.partition("://")
    if not rest.strip("/"):
        raise BadRequest(f"{uri} names nothing.", "Use s3://BUCKET/PREFIX or dynamodb://TABLE.")
    last = rest.rstrip("/").rpartition("/")[2]
    dataset = check_name(name) if name is not None else clean_name(Path(last))
    source = {"s3": uri} if scheme == "s3" else {"dynamodb": rest.strip("/")}
    asked = dict(settings or {})
    given = asked.pop("source", None) or {}
    return Upload(dataset, {}, config_bytes(None, {**asked, "source": {**given, **source}}), loose=True, source=uri)


def plan_batch(path: str | Path, model: str, job: str | None, settings: Mapping[str, Any]) -> Upload:
    """Decide what a path means as records for a model.

    Args:
        path: An archive, a table, a folder, a list of S3 URIs, or `s3://BUCKET/PREFIX`.
        model: The model's name.
        job: The job's name; made from the path's and the time when None.
        settings: Fields of batch.yaml.

    Raises:
        BadRequest: The path or a name can't be used.
    """
    check_name(model)
    asked = {field: value for field, value in settings.items() if value is not None}
    if is_source(path):
        uri = str(path)
        if not uri.startswith("s3://") or not uri.removeprefix("s3://").strip("/"):
            raise BadRequest(f"{uri} can't be read by a batch job.", "Use s3://BUCKET/PREFIX.")
        name = check_name(job) if job else _job_name(Path(uri.rstrip("/").rpartition("/")[2]))
        sourced = yaml.safe_dump({**asked, "source": uri}, sort_keys=True).encode()
        return Upload(name, {}, sourced, loose=True, source=uri, batch=f"{model}/{name}")
    config = yaml.safe_dump(asked, sort_keys=True).encode() if asked else None
    local = Path(path).expanduser()
    if local.is_file() and local.suffix.lower() in (*IMAGE_TYPES, TEXT_SUFFIX):
        name = check_name(job) if job else _job_name(local.with_suffix(""))
        batch = f"{model}/{name}"
        return Upload(name, {f"batch/{batch}/{local.name}": local}, config, loose=True, batch=batch)
    upload = plan_upload(local, name=check_name(job) if job else _job_name(local))
    batch = f"{model}/{upload.dataset}"
    prefix = f"datasets/{upload.dataset}/"
    files = {f"batch/{batch}/{key.removeprefix(prefix)}": file for key, file in upload.files.items()}
    return Upload(upload.dataset, files, config, upload.loose, batch=batch)


def _job_name(path: Path) -> str:
    """A name that no job has: whoever asks again wants it answered again, perhaps by another version."""
    moment = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    return f"{clean_name(path)[: MAX_NAME - len(moment) - 1]}-{moment}"


def is_source(path: object) -> bool:
    """Whether what is pushed is a source that the cloud reads itself."""
    return isinstance(path, str) and path.startswith(SOURCES)


def _members(folder: Path) -> list[PurePosixPath]:
    """What a folder has for a dataset: images or else texts, and tables; nothing hidden."""
    found: list[PurePosixPath] = []
    for path in folder.rglob("*"):
        relative = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in relative.parts)
        wanted = path.suffix.lower() in IMAGE_TYPES or path.name.lower().endswith(LOOSE_SUFFIXES)
        if wanted and not hidden and path.is_file() and relative.as_posix() != CONFIG:
            found.append(PurePosixPath(relative.as_posix()))
    if not found:
        raise BadRequest(
            f"{folder} holds no images, texts or tables.",
            "Give a folder with one folder per class, or of tables, or push the file itself.",
        )
    if any(member.suffix.lower() in IMAGE_TYPES for member in found):
        found = [member for member in found if member.suffix.lower() != TEXT_SUFFIX]
    return sorted(found)


def _plan_folder(folder: Path, dataset: str, config: Path | None, settings: Mapping[str, Any]) -> Upload:
    """A folder's files wait for their dataset.yaml.

    A table at the top of a dataset would start a run by itself, so with one among them all go into a folder.
    """
    members = _members(folder)
    if config is None and (folder / CONFIG).is_file():
        config = folder / CONFIG
    data = config_bytes(config, settings)
    inner = ""
    if any(len(member.parts) == 1 and _starts(member.name) for member in members):
        inner = INNER_FOLDER
        data = _with_inner_labels(data, config or folder, {member.as_posix() for member in members})
    files = {f"datasets/{dataset}/{inner}{member.as_posix()}": folder / member for member in members}
    return Upload(dataset, files, data, loose=True)


def _starts(name: str) -> bool:
    """Whether a file of this name at a dataset's top starts a run: docs/upload-contract.md."""
    lower = name.lower()
    is_table = lower.endswith(TABLE_SUFFIXES)
    return bool(_suffix(Path(name))) and not (is_table and lower.partition(".")[0] in LABEL_TABLES)


def _with_inner_labels(data: bytes | None, path: Path, members: set[str]) -> bytes | None:
    """The settings with `labels.file` where the file went."""
    fields = fields_of(data, path) if data else {}
    labels = fields.get("labels")
    if not isinstance(labels, dict) or labels.get("file") not in members:
        return data
    moved = {**labels, "file": f"{INNER_FOLDER}{labels['file']}"}
    return config_bytes(None, {**fields, "labels": moved})


class Uploader:
    """Puts one `Upload` into a cloud's bucket, and nothing that is there already.

    Args:
        connection: The cloud.
        upload: What to put.
        on_upload: Called with (bytes done, bytes of all files) as they go.
    """

    def __init__(self, connection: Connection, upload: Upload, on_upload: OnUpload | None = None) -> None:
        self._connection = connection
        self._upload = upload
        self._total = sum(path.stat().st_size for path in upload.files.values())
        self._done = 0
        self._on_upload = on_upload
        self._lock = threading.Lock()

    def unchanged(self) -> Placed | None:
        """The objects that hold exactly this upload already, or None when any is missing or differs."""
        try:
            if self._upload.config is not None and self._read(self._upload.config_key) != self._upload.config:
                return None
            kept = self._kept()
        except (ClientError, BotoCoreError) as error:
            raise self._error(error) from error
        return Placed(frozenset(), frozenset(kept.values())) if len(kept) == len(self._upload.files) else None

    def put(self) -> Placed:
        """Upload in the order that starts one run.

        Raises:
            ConnectionFailed, NotAuthorised, NotFound, ServiceFailed: What S3 answered.
            BadRequest: A local file can't be read.
        """
        try:
            kept = self._kept()
            return self._put_loose(kept) if self._upload.loose else self._put_whole(kept)
        except (ClientError, BotoCoreError, S3UploadFailedError) as error:
            raise self._error(error) from error
        except OSError as error:
            raise BadRequest(f"{error.filename} can't be read: {error.strerror}.", "Check the file.") from error

    def _put_whole(self, kept: Mapping[str, Stored]) -> Placed:
        """An archive or table, after its settings; written even when it is there, so that it is the newest."""
        upload = self._upload
        if upload.config is not None and self._read(upload.config_key) != upload.config:
            self._put_bytes(upload.config_key, upload.config)
        written = frozenset(self._put_file(key, path) for key, path in upload.files.items())
        return Placed(written, frozenset(kept.values()))

    def _put_loose(self, kept: Mapping[str, Stored]) -> Placed:
        """Files that aren't there yet, then dataset.yaml, always: writing it commits the set."""
        upload = self._upload
        missing = {key: path for key, path in upload.files.items() if key not in kept}
        with ThreadPoolExecutor(PARALLEL_PUTS) as pool:
            written = set(pool.map(lambda item: self._put_file(*item), missing.items()))
        config = upload.config if upload.config is not None else self._read(upload.config_key)
        written.add(self._put_bytes(upload.config_key, config if config is not None else NOTHING_ASKED))
        return Placed(frozenset(written), frozenset(kept.values()))

    def _kept(self) -> dict[str, Stored]:
        """Key -> object, of the files whose bytes are there already."""
        with ThreadPoolExecutor(PARALLEL_PUTS) as pool:
            found = list(pool.map(lambda item: self._stored(*item), self._upload.files.items()))
        return {stored[0]: stored for stored in found if stored is not None}

    def _error(self, error: Exception) -> ShoalError:
        if isinstance(error, S3UploadFailedError):  # boto3 keeps only the text of what S3 said
            return ConnectionFailed(f"The upload broke off: {error}.", "Push again; nothing half-written is used.")
        return aws_error(error, f"bucket {self._connection.bucket!r}")

    def _read(self, key: str) -> bytes | None:
        try:
            answer = self._connection.s3.get_object(Bucket=self._connection.bucket, Key=key)
            return bytes(answer["Body"].read())
        except ClientError as error:
            if error.response["Error"]["Code"] == "NoSuchKey":
                return None
            raise

    def _stored(self, key: str, path: Path) -> Stored | None:
        """The object under the key, when it has the file's bytes."""
        try:
            head = self._connection.s3.head_object(Bucket=self._connection.bucket, Key=key)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                return None
            raise
        if head["ContentLength"] != path.stat().st_size or not _same_bytes(head, path):
            return None
        return key, head.get("VersionId")

    def _put_bytes(self, key: str, data: bytes) -> Stored:
        answer = self._connection.s3.put_object(Bucket=self._connection.bucket, Key=key, Body=data)
        return key, answer.get("VersionId")

    def _put_file(self, key: str, path: Path) -> Stored:
        size = path.stat().st_size
        if size <= SINGLE_PUT_BYTES:
            stored = self._put_bytes(key, path.read_bytes())
            self._advance(size)
            return stored
        s3, bucket = self._connection.s3, self._connection.bucket
        # A multipart object's ETag isn't the MD5 of its bytes; the digest lets a later push see that nothing changed.
        s3.upload_file(
            str(path),
            bucket,
            key,
            ExtraArgs={"Metadata": {"sha256": _digest(path, "sha256")}},
            Config=TransferConfig(multipart_threshold=SINGLE_PUT_BYTES, multipart_chunksize=SINGLE_PUT_BYTES),
            Callback=self._advance,
        )
        return key, s3.head_object(Bucket=bucket, Key=key).get("VersionId")

    def _advance(self, count: int) -> None:
        with self._lock:
            self._done += count
            if self._on_upload:
                self._on_upload(self._done, self._total)


def _same_bytes(head: Mapping[str, Any], path: Path) -> bool:
    sha256 = head.get("Metadata", {}).get("sha256")
    if sha256:
        return bool(sha256 == _digest(path, "sha256"))
    return bool(head["ETag"].strip('"') == _digest(path, "md5"))


def _digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()
