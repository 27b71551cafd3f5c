"""S3 on disk: every version of every object, read back from moto after a write and given to moto at the start."""

from __future__ import annotations

import io
import json
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from moto.s3.exceptions import MissingBucket
from moto.s3.models import FakeBucket, FakeDeleteMarker, FakeKey, S3Backend, s3_backends

from shoal.local.state import StateStore, dump

_PLAIN_FIELDS = (
    "encryption", "kms_key_id", "bucket_key_enabled", "lock_mode", "lock_legal_status", "lock_until",
    "checksum_algorithm", "checksum_value", "checksum_type", "checksum_parts", "website_redirect_location",
)  # fmt: skip
_BUFFER = "_value_buffer"
MotoVersion = Any  # moto's FakeKey or FakeDeleteMarker, which share no base


class BodyFile(io.RawIOBase):
    """A kept body that moto reads as its own buffer: opened only when read, so a thousand objects cost no memory."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self._file: BinaryIO | None = None

    def _opened(self) -> BinaryIO:
        if self._file is None:
            self._file = self.path.open("rb")
        return self._file

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a position in the body."""
        return self._opened().seek(offset, whence)

    def read(self, size: int = -1, /) -> bytes:
        """Read up to `size` bytes, all that is left when negative; reading all closes the file until the next use."""
        data = self._opened().read(size)
        if size < 0:
            self._release()
        return data

    def close(self) -> None:
        """Close the file."""
        self._release()
        super().close()

    def _release(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


@dataclass(frozen=True)
class Written:
    """What a finished request did to one key: the version that it made, or the deletion.

    Attributes:
        version: The new version's id; `null` in a bucket without versions.
        sequence: Number that orders all writes of the cloud, also over restarts.
        size: Bytes of the body; 0 for a deletion.
        etag: ETag without quotation marks.
        marker: Whether it is a delete marker.
        deleted: Whether a version was deleted for good.
    """

    version: str
    sequence: int
    size: int = 0
    etag: str = ""
    marker: bool = False
    deleted: bool = False


class S3State:
    """Keeps S3's objects in a `StateStore`."""

    def __init__(self, store: StateStore, account: str) -> None:
        self._store = store
        self._account = account

    @property
    def _backend(self) -> S3Backend:
        return s3_backends[self._account]["aws"]

    def bucket(self, name: str) -> FakeBucket | None:
        """Moto's bucket, or None."""
        with suppress(MissingBucket):
            return self._backend.get_bucket(name)
        return None

    def newest(self, bucket: str, key: str) -> MotoVersion:
        """Moto's newest version of a key (an object or a delete marker), or None."""
        found = self.bucket(bucket)
        return found.keys.get(key) if found else None

    def version(self, bucket: str, key: str, version: str) -> MotoVersion:
        """Moto's object of one version, or None; the newest where `version` is empty."""
        if not version:
            return self.newest(bucket, key)
        found = self.bucket(bucket)
        versions = found.keys.getlist(key, []) if found else []
        return next((each for each in versions if each.version_id == version), None)

    def record_bucket(self, name: str) -> None:
        """Keep a bucket as it is now; forget it, with its objects, when it is gone."""
        found = self.bucket(name)
        with self._store.transaction() as db:
            if found is None:
                db.execute("DELETE FROM buckets WHERE name = ?", (name,))
                db.execute("DELETE FROM versions WHERE bucket = ?", (name,))
            else:
                db.execute(
                    "INSERT OR REPLACE INTO buckets VALUES(?, ?, ?)",
                    (name, found.region_name, found.versioning_status),
                )

    def record_buckets(self) -> None:
        """Keep every bucket as it is now."""
        for name in list(self._backend.buckets):
            self.record_bucket(name)

    def keep_bodies(self, bucket: str, key: str) -> None:
        """Put every new body of a key on disk; before `record_key`, and outside of a transaction: it can take long."""
        found = self.bucket(bucket)
        for version in found.keys.getlist(key, []) if found else []:
            if isinstance(version, FakeKey) and not isinstance(version._value_buffer, BodyFile):
                _swap_buffer(version, self._store.body_path(self._store.write_body(version.value)))

    def record_key(self, bucket: str, key: str) -> Written | None:
        """Make the record of a key equal to moto's versions of it.

        Returns the key's new newest version, or the version that was deleted for good; None when only metadata
        changed.
        """
        self.keep_bodies(bucket, key)
        found = self.bucket(bucket)
        versions = list(found.keys.getlist(key, [])) if found else []
        written: Written | None = None
        with self._store.transaction() as db:
            known = {
                row["version"]: row
                for row in db.execute(
                    "SELECT version, record FROM versions WHERE bucket = ? AND key = ?", (bucket, key)
                ).fetchall()
            }
            for version in versions:
                change = self._record_version(db, bucket, key, version, known.pop(version.version_id, None))
                if change is not None and version is versions[-1]:
                    written = change
            for gone in known:
                db.execute("DELETE FROM versions WHERE bucket = ? AND key = ? AND version = ?", (bucket, key, gone))
            if known and written is None:
                written = Written(next(iter(known)), self._store.next_number("sequence"), deleted=True)
        return written

    def _record_version(
        self, db: sqlite3.Connection, bucket: str, key: str, version: MotoVersion, known: sqlite3.Row | None
    ) -> Written | None:
        """Keep one version; returns what was written, or None when the write was known (its metadata may be new)."""
        marker = isinstance(version, FakeDeleteMarker)
        record = {"marker": True, "modified": _text(version)} if marker else self._describe(version)
        text = dump(record)
        if known is not None and json.loads(known["record"])["modified"] == record["modified"]:
            if known["record"] != text:
                db.execute(
                    "UPDATE versions SET record = ? WHERE bucket = ? AND key = ? AND version = ?",
                    (text, bucket, key, version.version_id),
                )
            return None
        sequence = self._store.next_number("sequence")
        body = None if marker else version._value_buffer.path.name
        db.execute(
            "INSERT OR REPLACE INTO versions VALUES(?, ?, ?, ?, ?, ?)",
            (bucket, key, version.version_id, sequence, body, text),
        )
        if marker:
            return Written(version.version_id, sequence, marker=True)
        return Written(version.version_id, sequence, version.size, version.etag.strip('"'))

    def _describe(self, version: FakeKey) -> dict[str, Any]:
        fields: dict[str, Any] = {name: getattr(version, name, None) for name in _PLAIN_FIELDS}
        return {name: value for name, value in fields.items() if value is not None} | {
            "etag": version.etag.strip('"'),
            "metadata": dict(version.metadata),
            "modified": _text(version),
            "size": version.size,
            "storage": version.storage_class,
            "tags": self._backend.tagger.get_tag_dict_for_resource(version.arn),
            "versioned": version._is_versioned,
        }

    def restore(self) -> int:
        """Give moto every kept bucket and version; returns how many versions. Call it once, after the deployment."""
        for row in self._store.rows("SELECT name, region, versioning FROM buckets"):
            made = self.bucket(row["name"]) or self._backend.create_bucket(row["name"], row["region"])
            if row["versioning"] and not made.versioning_status:
                made.versioning_status = row["versioning"]
        count = 0
        for bucket, key, rows in self._kept_keys():
            found = self.bucket(bucket)
            if found is None:
                continue
            versions: list[Any] = []
            for row in rows:
                versions.append(self._rebuild(found, key, row, versions[-1] if versions else None))
            found.keys.setlist(key, versions)
            count += len(versions)
        return count

    def _kept_keys(self) -> Iterator[tuple[str, str, list[sqlite3.Row]]]:
        group: list[sqlite3.Row] = []
        for row in self._store.rows("SELECT * FROM versions ORDER BY bucket, key, sequence"):
            if group and (row["bucket"], row["key"]) != (group[0]["bucket"], group[0]["key"]):
                yield group[0]["bucket"], group[0]["key"], group
                group = []
            group.append(row)
        if group:
            yield group[0]["bucket"], group[0]["key"], group

    def _rebuild(self, bucket: FakeBucket, key: str, row: sqlite3.Row, before: MotoVersion) -> MotoVersion:
        record = json.loads(row["record"])
        modified = datetime.fromisoformat(record["modified"])
        if record.get("marker"):
            # A marker points at what it hides; a marker that is alone hides an object that was deleted for good.
            hidden = before or self._empty(bucket, key)
            marker = FakeDeleteMarker(key=hidden)
            marker._version_id, marker.last_modified = row["version"], modified
            return marker
        version = self._empty(bucket, key)
        version._etag, version._version_id, version._is_versioned = record["etag"], row["version"], record["versioned"]
        version._storage_class, version.last_modified = record["storage"], modified
        version.set_metadata(record["metadata"], replace=False)
        for name in _PLAIN_FIELDS:
            if name in record:
                setattr(version, name, record[name])
        _swap_buffer(version, self._store.body_path(row["body"]))
        version.contentsize = record["size"]
        if record["tags"]:
            self._backend.tagger.tag_resource(
                version.arn, [{"Key": name, "Value": value} for name, value in record["tags"].items()]
            )
        return version

    def _empty(self, bucket: FakeBucket, key: str) -> FakeKey:
        return FakeKey(key, b"", self._account, bucket.region_name, bucket_name=bucket.name)


def _swap_buffer(version: FakeKey, path: Path) -> None:
    """Let moto's object read its body from the kept file instead of from memory."""
    etag = version.etag  # computed from the buffer when it wasn't given, so before it goes
    with version.lock:
        version._value_buffer.close()
        setattr(version, _BUFFER, BodyFile(path))
    version._etag = etag.strip('"')


def _text(version: MotoVersion) -> str:
    return str(version.last_modified.isoformat())
