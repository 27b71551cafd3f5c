"""SQS messages, secrets and SSM parameters on disk: few and small, so each queue or name is kept as a whole."""

from __future__ import annotations

import base64
import json
import sys
import time
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from moto.secretsmanager.models import FakeSecret, SecretsManagerBackend, secretsmanager_backends
from moto.sqs.models import Message, Queue, SQSBackend, sqs_backends

from shoal.local.state import StateStore, dump

if TYPE_CHECKING:
    from moto.ssm.models import Parameter, SimpleSystemManagerBackend

_MESSAGE_FIELDS = (
    "body", "message_attributes", "system_attributes", "receipt_handle", "sender_id", "sent_timestamp",
    "approximate_first_receive_timestamp", "approximate_receive_count", "deduplication_id", "group_id",
    "sequence_number", "visible_at", "delayed_until",
)  # fmt: skip
_SECRET_FIELDS = ("versions", "description", "last_changed_date", "created_date", "deleted_date")
_PARAMETER_FIELDS = (
    "name", "parameter_type", "description", "allowed_pattern", "keyid", "version", "data_type", "labels",
    "tier", "policies",
)  # fmt: skip
_SSM_MODULE = "moto.ssm.models"
_DEPLOYED_PARAMETERS = "deployed-parameters"


class CountedQueue(Queue):
    """A queue of moto's that looks at its messages once where moto asks the clock several times for each.

    Moto counts them whenever it looks at any attribute, so at each message that is sent or received: a queue of 1,000
    took 7 ms for a message sent and 650 ms for ten received.
    """

    @property
    def messages(self) -> list[Message]:
        """Those that can be received now."""
        now = _now()
        return [each for each in self._messages if each.visible_at < now and each.delayed_until <= now]

    @property
    def approximate_number_of_messages(self) -> int:
        """How many can be received now."""
        return len(self.messages)

    @property
    def approximate_number_of_messages_delayed(self) -> int:
        """How many wait for their first time."""
        now = _now()
        return sum(each.delayed_until > now for each in self._messages)

    @property
    def approximate_number_of_messages_not_visible(self) -> int:
        """How many are received and not deleted."""
        now = _now()
        return sum(each.visible_at >= now for each in self._messages)


def _now() -> float:
    return time.time() * 1000


class QueueState:
    """Keeps the messages of SQS queues."""

    def __init__(self, store: StateStore, account: str, region: str) -> None:
        self._store = store
        self._account, self._region = account, region
        self._kept: dict[str, dict[str, tuple[object, ...]]] = {}

    @property
    def _backend(self) -> SQSBackend:
        return sqs_backends[self._account][self._region]

    def record(self, name: str) -> None:
        """Keep a queue's messages as they are now; only what changed is written."""
        queue: Queue | None = self._backend.queues.get(name)
        messages = list(queue._messages) if queue else []
        now = {message.id: _changing(message) for message in messages}
        before = self._kept.get(name, {})
        changed = [message for message in messages if before.get(message.id) != now[message.id]]
        with self._store.transaction() as db:
            for gone in before.keys() - now.keys():
                db.execute("DELETE FROM messages WHERE queue = ? AND message = ?", (name, gone))
            for message in changed:
                db.execute(
                    "INSERT INTO messages VALUES(?, ?, ?, ?) "
                    "ON CONFLICT(queue, message) DO UPDATE SET record = excluded.record",
                    (name, message.id, self._store.next_number("sequence"), _pack(_message_record(message))),
                )
        self._kept[name] = now

    def record_all(self) -> None:
        """Keep every queue; for operations that move messages between queues."""
        for name in list(self._backend.queues):
            self.record(name)

    def count(self) -> None:
        """Make moto's queues count their messages as `CountedQueue` does."""
        for queue in list(self._backend.queues.values()):
            queue.__class__ = CountedQueue  # type: ignore[type-abstract]  # abstract on paper only

    def restore(self) -> int:
        """Give moto the messages of every queue that exists; returns how many."""
        self.count()
        count = 0
        for name, queue in list(self._backend.queues.items()):
            for row in self._store.rows("SELECT * FROM messages WHERE queue = ? ORDER BY sequence", name):
                record = _unpack(row["record"])
                message = Message(row["message"], record["body"], record["system_attributes"])
                for field in _MESSAGE_FIELDS:
                    setattr(message, field, record[field])
                message._old_receipt_handles = record["old_receipt_handles"]
                queue._messages.append(message)
                self._kept.setdefault(name, {})[row["message"]] = _changing(message)
                count += 1
        return count


class SecretState:
    """Keeps secrets: all their versions with stages."""

    def __init__(self, store: StateStore, account: str, region: str) -> None:
        self._store = store
        self._account, self._region = account, region

    @property
    def _backend(self) -> SecretsManagerBackend:
        return secretsmanager_backends[self._account][self._region]

    def record_all(self) -> None:
        """Keep every secret as it is now."""
        with self._store.transaction() as db:
            db.execute("DELETE FROM secrets")
            for secret in self._backend.secrets.values():
                if isinstance(secret, FakeSecret):
                    record = {field: getattr(secret, field) for field in _SECRET_FIELDS}
                    db.execute("INSERT OR REPLACE INTO secrets VALUES(?, ?)", (secret.name, dump(record)))

    def values(self) -> dict[str, str]:
        """The current value of every kept secret by name; what a deployment must not generate anew."""
        found: dict[str, str] = {}
        for row in self._store.rows("SELECT name, record FROM secrets"):
            for version in json.loads(row["record"])["versions"].values():
                if "AWSCURRENT" in version.get("version_stages", []) and version.get("secret_string"):
                    found[row["name"]] = version["secret_string"]
        return found

    def restore(self) -> int:
        """Give every secret that exists its kept versions; returns how many secrets."""
        count = 0
        for row in self._store.rows("SELECT name, record FROM secrets"):
            secret = self._backend.secrets.get(row["name"])
            if not isinstance(secret, FakeSecret):
                continue
            for field, value in json.loads(row["record"]).items():
                setattr(secret, field, value)
            current = [key for key, each in secret.versions.items() if "AWSCURRENT" in each["version_stages"]]
            secret.set_default_version_id(current[0] if current else None)
            count += 1
        return count


class ParameterState:
    """Keeps SSM parameters: all their versions with labels.

    Moto's SSM brings EC2 with it, a second of imports; so it is loaded when there is a parameter, not before.
    """

    def __init__(self, store: StateStore, account: str, region: str) -> None:
        self._store = store
        self._account, self._region = account, region

    @property
    def _backend(self) -> SimpleSystemManagerBackend:
        from moto.ssm.models import ssm_backends

        return ssm_backends[self._account][self._region]

    def record_all(self) -> None:
        """Keep every parameter as it is now, but AWS's own, which moto brings."""
        with self._store.transaction() as db:
            db.execute("DELETE FROM parameters")
            # By moto's own names: it drops the slash of `/name`.
            for name, versions in list(self._backend._parameters.items()):
                if versions and not name.lstrip("/").startswith("aws/service/"):
                    record = dump([_parameter_record(version) for version in versions])
                    db.execute("INSERT INTO parameters VALUES(?, ?)", (name, record))

    def restore(self) -> int:
        """Give moto the kept parameters; returns how many.

        A parameter whose value in the template changed since the last deployment takes the template's, as
        CloudFormation does; any other keeps what was last written to it.
        """
        rows = self._store.rows("SELECT name, record FROM parameters")
        if not rows and _SSM_MODULE not in sys.modules:
            return 0
        from moto.ssm.models import Parameter

        make: Callable[..., Parameter] = Parameter  # its bases are abstract on paper only
        deployed = {
            name: versions[-1].decrypt(versions[-1].value)
            for name, versions in list(self._backend._parameters.items())
            if versions
        }
        before = self._store.setting(_DEPLOYED_PARAMETERS) or {}
        count = 0
        for row in rows:
            name = row["name"]
            if name in deployed and before.get(name) != deployed[name]:
                continue
            versions = []
            for record in json.loads(row["record"]):
                modified = datetime.fromisoformat(record.pop("last_modified_date"))
                versions.append(make(account_id=self._account, last_modified_date=modified, **record))
            self._backend._parameters[name] = versions
            count += 1
        self._store.set_setting(_DEPLOYED_PARAMETERS, deployed)
        return count


def _pack(record: dict[str, Any]) -> str:
    """JSON of a message; binary attributes become `{"base64": …}`."""
    return json.dumps(
        record, default=lambda data: {"base64": base64.b64encode(data).decode()}, sort_keys=True, separators=(",", ":")
    )


def _unpack(text: str) -> dict[str, Any]:
    def decode(value: dict[str, Any]) -> object:
        return base64.b64decode(value["base64"]) if value.keys() == {"base64"} else value

    record: dict[str, Any] = json.loads(text, object_hook=decode)
    return record


def _changing(message: Message) -> tuple[object, ...]:
    """What of a message may change once it is in a queue."""
    return (message.receipt_handle, message.visible_at, message.approximate_receive_count, message.delayed_until)


def _message_record(message: Message) -> dict[str, Any]:
    record = {field: getattr(message, field) for field in _MESSAGE_FIELDS}
    return record | {"old_receipt_handles": list(message._old_receipt_handles)}


def _parameter_record(version: Parameter) -> dict[str, Any]:
    record = {field: getattr(version, field) for field in _PARAMETER_FIELDS}
    modified: datetime = version.last_modified_date
    return record | {"value": version.decrypt(version.value), "last_modified_date": modified.isoformat()}
