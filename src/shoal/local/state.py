"""What the embedded cloud keeps on disk: a SQLite database and object bodies as files named by their sha256.

```
<home>/state/state.db           every record, SQLite in WAL mode
<home>/state/bodies/ab/abcd…    object bodies, content addressed
<home>/state/tmp/               bodies being written
```

Durability: a body is written under tmp/ and renamed before the record that names it is committed, and every
acknowledged write is committed before its answer leaves; so `kill -9` at any moment loses nothing acknowledged and
leaves no half object. Nothing is fsynced per write (SQLite `synchronous=NORMAL`): a power cut can lose the last
moments, and never corrupts the database.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SCHEMA_VERSION = 1
Json = Any  # a value that JSON can hold

_SCHEMA = """
CREATE TABLE IF NOT EXISTS counters(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS settings(name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS buckets(name TEXT PRIMARY KEY, region TEXT NOT NULL, versioning TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS versions(
  bucket TEXT NOT NULL, key TEXT NOT NULL, version TEXT NOT NULL, sequence INTEGER NOT NULL,
  body TEXT, record TEXT NOT NULL, PRIMARY KEY(bucket, key, version)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS versions_by_body ON versions(body);
CREATE TABLE IF NOT EXISTS items(
  tablename TEXT NOT NULL, key TEXT NOT NULL, item TEXT NOT NULL, PRIMARY KEY(tablename, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS messages(
  queue TEXT NOT NULL, message TEXT NOT NULL, sequence INTEGER NOT NULL, record TEXT NOT NULL,
  PRIMARY KEY(queue, message)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS secrets(name TEXT PRIMARY KEY, record TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS parameters(name TEXT PRIMARY KEY, record TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS pending_events(
  id TEXT PRIMARY KEY, sequence INTEGER NOT NULL, record TEXT NOT NULL, payload BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS executions(
  arn TEXT PRIMARY KEY, machine TEXT NOT NULL, name TEXT NOT NULL, status TEXT NOT NULL, started REAL NOT NULL,
  input TEXT NOT NULL, record TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS executions_by_machine ON executions(machine, started);
CREATE TABLE IF NOT EXISTS stream_records(
  stream TEXT NOT NULL, shard TEXT NOT NULL, number INTEGER NOT NULL, arrived REAL NOT NULL, key TEXT NOT NULL,
  data BLOB NOT NULL, PRIMARY KEY(stream, shard, number)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS checkpoints(
  mapping TEXT NOT NULL, stream TEXT NOT NULL, shard TEXT NOT NULL, lane INTEGER NOT NULL, number INTEGER NOT NULL,
  PRIMARY KEY(mapping, stream, shard, lane)) WITHOUT ROWID;
"""


class StateStore:
    """The state folder of one cloud. Safe to use from many threads of one process.

    Args:
        folder: The state folder; made when it isn't there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._bodies = folder / "bodies"
        self._tmp = folder / "tmp"
        shutil.rmtree(self._tmp, ignore_errors=True)
        for path in (self._bodies, self._tmp):
            path.mkdir(parents=True, exist_ok=True)
        self._lock = threading.RLock()
        self._depth = 0
        self._db = sqlite3.connect(folder / "state.db", check_same_thread=False, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "temp_store=MEMORY", "busy_timeout=5000"):
            self._db.execute(f"PRAGMA {pragma}")
        self._db.executescript(_SCHEMA)
        self._db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One atomic change: everything in the block is kept, or nothing. Nested blocks join the outermost."""
        with self._lock:
            outermost = self._depth == 0
            if outermost:
                self._db.execute("BEGIN IMMEDIATE")
            self._depth += 1
            try:
                yield self._db
            except BaseException:
                if outermost:
                    self._db.execute("ROLLBACK")
                raise
            else:
                if outermost:
                    self._db.execute("COMMIT")
            finally:
                self._depth -= 1

    def rows(self, sql: str, *values: Json) -> list[sqlite3.Row]:
        """All rows of a query."""
        with self._lock:
            return self._db.execute(sql, values).fetchall()

    def close(self) -> None:
        """Fold the write-ahead log into the database and close it."""
        with self._lock:
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._db.close()

    def next_number(self, counter: str, step: int = 1) -> int:
        """The next number of a named counter: 1, 2, 3 …, never twice, also after a restart."""
        with self.transaction() as db:
            row = db.execute(
                "INSERT INTO counters VALUES(?, ?) ON CONFLICT(name) DO UPDATE SET value = value + ? RETURNING value",
                (counter, step, step),
            ).fetchone()
            return int(row[0])

    def setting(self, name: str) -> Json:
        """A JSON value kept under a name, or None."""
        rows = self.rows("SELECT value FROM settings WHERE name = ?", name)
        return json.loads(rows[0]["value"]) if rows else None

    def set_setting(self, name: str, value: Json) -> None:
        """Keep a JSON value under a name."""
        with self.transaction() as db:
            db.execute("INSERT OR REPLACE INTO settings VALUES(?, ?)", (name, dump(value)))

    def body_path(self, sha256: str) -> Path:
        """Where the body with this sha256 lies."""
        return self._bodies / sha256[:2] / sha256

    def write_body(self, data: bytes) -> str:
        """Keep a body and return its sha256 (hex). Writing the same bytes again costs one hash."""
        digest = hashlib.sha256(data).hexdigest()
        path = self.body_path(digest)
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            temporary = self._tmp / uuid.uuid4().hex
            temporary.write_bytes(data)
            temporary.replace(path)
        return digest

    def collect_garbage(self) -> int:
        """Delete bodies that no object version names; returns how many. Only while nothing is being written."""
        used = {row["body"] for row in self.rows("SELECT DISTINCT body FROM versions WHERE body IS NOT NULL")}
        removed = 0
        for path in self._bodies.glob("*/*"):
            if path.name not in used:
                path.unlink(missing_ok=True)
                removed += 1
        return removed

    def size(self) -> int:
        """Bytes that the state folder takes."""
        return sum((Path(folder) / name).stat().st_size for folder, _, names in os.walk(self.folder) for name in names)


def dump(value: Json) -> str:
    """Compact JSON with sorted keys; what the records are kept as."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
