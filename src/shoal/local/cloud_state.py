"""Everything that the embedded cloud keeps, in one place: opened before the deployment, restored after it."""

from __future__ import annotations

import json
import threading
import uuid
from pathlib import Path

from shoal.local.compute.pending import PendingEvent
from shoal.local.s3_state import S3State
from shoal.local.small_state import ParameterState, QueueState, SecretState
from shoal.local.state import StateStore, dump
from shoal.local.streaming.records import RecordLog
from shoal.local.table_state import TableState


class SqlitePending:
    """Implements `compute.pending.PendingEvents` in the cloud's database.

    An S3 event is kept by `accept` in the transaction that records its write, under an id of our own. When Lambda takes
    it over, `add` puts Lambda's id in its place at once, so that the event is there once at any moment.
    """

    def __init__(self, store: StateStore) -> None:
        self._store = store
        self._accepted: dict[tuple[str, bytes], list[str]] = {}
        self._lock = threading.Lock()

    def accept(self, function: str, payload: bytes, due: float) -> None:
        """Keep an event that Lambda is about to be given; joins the caller's transaction."""
        id = str(uuid.uuid4())
        with self._lock:
            self._accepted.setdefault((function, payload), []).append(id)
        self._insert(id, function, payload, 0, due)

    def add(self, id: str, function: str, payload: bytes, attempt: int, due: float) -> None:
        """Keep an event; one that is kept under the same id, or was accepted, is replaced."""
        with self._lock:
            accepted = self._accepted.pop((function, payload), [])
            replaced = accepted.pop(0) if accepted else None
            if accepted:
                self._accepted[(function, payload)] = accepted
        with self._store.transaction():
            if replaced:
                self.remove(replaced)
            self._insert(id, function, payload, attempt, due)

    def _insert(self, id: str, function: str, payload: bytes, attempt: int, due: float) -> None:
        record = dump({"function": function, "attempt": attempt, "due": due})
        with self._store.transaction() as db:
            db.execute(
                "INSERT INTO pending_events VALUES(?, ?, ?, ?) "
                "ON CONFLICT(id) DO UPDATE SET record = excluded.record, payload = excluded.payload",
                (id, self._store.next_number("pending"), record, payload),
            )

    def remove(self, id: str) -> None:
        """Forget an event; unknown ids are fine."""
        with self._store.transaction() as db:
            db.execute("DELETE FROM pending_events WHERE id = ?", (id,))

    def all(self) -> list[PendingEvent]:
        """Every event that is kept, oldest `due` first."""
        events = []
        for row in self._store.rows("SELECT * FROM pending_events ORDER BY sequence"):
            record = json.loads(row["record"])
            events.append(
                PendingEvent(row["id"], record["function"], bytes(row["payload"]), record["attempt"], record["due"])
            )
        return sorted(events, key=lambda event: event.due)


class CloudState:
    """The kept state of one cloud.

    Args:
        folder: The state folder, `.shoal/state`.
        account: Account id.
        region: Region.
    """

    def __init__(self, folder: Path, account: str, region: str) -> None:
        self.account, self.region = account, region
        self.store = StateStore(folder)
        self.s3 = S3State(self.store, account)
        self.tables = TableState(self.store, account, region)
        self.queues = QueueState(self.store, account, region)
        self.secrets = SecretState(self.store, account, region)
        self.parameters = ParameterState(self.store, account, region)
        self.pending = SqlitePending(self.store)
        self.records = RecordLog(self.store)

    def restore(self) -> dict[str, int]:
        """Give moto everything that is kept; once, after the deployment. Returns how many of each kind."""
        counts = {
            "objects": self.s3.restore(),
            "items": self.tables.restore(),
            "messages": self.queues.restore(),
            "secrets": self.secrets.restore(),
            "parameters": self.parameters.restore(),
        }
        self.secrets.record_all()
        self.s3.record_buckets()
        self.store.collect_garbage()
        return counts

    def close(self) -> None:
        """Close the database."""
        self.store.close()
