"""S3's event notifications, built from finished writes as AWS documents them.

Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html (version 2.1; S3 adds
fields in 2.3 only for replication, lifecycle, tiering and the like, which the embedded cloud doesn't have).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any, Protocol
from urllib.parse import quote_plus

EVENT_VERSION = "2.1"


class NotificationLike(Protocol):
    """What this module reads of `deploy.Notification`."""

    @property
    def bucket(self) -> str:
        """Name of the bucket."""
        ...

    @property
    def function_name(self) -> str:
        """Name of the function to invoke."""
        ...

    @property
    def events(self) -> tuple[str, ...]:
        """Event patterns, such as `s3:ObjectCreated:*`."""
        ...

    @property
    def prefix(self) -> str:
        """Only keys that start with it."""
        ...

    @property
    def suffix(self) -> str:
        """Only keys that end with it."""
        ...

    @property
    def configuration_id(self) -> str:
        """S3's `configurationId`."""
        ...


@dataclass(frozen=True)
class ObjectWrite:
    """One finished write to S3.

    Attributes:
        event: Event name without `s3:`, such as `ObjectCreated:Put`.
        bucket: Name of the bucket.
        key: The key, decoded.
        region: The bucket's region.
        version: Version id; `null` in a bucket without versions.
        sequence: Number that grows with every write.
        size: Bytes of the object.
        etag: ETag without quotation marks.
        principal: Who wrote.
        source_ip: Address the request came from.
        request_id: The response's `x-amz-request-id`.
        host_id: The response's `x-amz-id-2`.
    """

    event: str
    bucket: str
    key: str
    region: str
    version: str
    sequence: int
    size: int
    etag: str
    principal: str
    source_ip: str
    request_id: str
    host_id: str


def created_event(method: str, *, multipart: bool, copy: bool) -> str:
    """Name of the event of a finished object creation by a request of this kind."""
    if multipart:
        return "ObjectCreated:CompleteMultipartUpload"
    if copy:
        return "ObjectCreated:Copy"
    return "ObjectCreated:Post" if method == "POST" else "ObjectCreated:Put"


def matching(notifications: Iterable[NotificationLike], write: ObjectWrite) -> list[NotificationLike]:
    """The notifications that a write fires."""
    return [
        each
        for each in notifications
        if each.bucket == write.bucket
        and write.key.startswith(each.prefix)
        and write.key.endswith(each.suffix)
        and any(fnmatchcase(f"s3:{write.event}", pattern) for pattern in each.events)
    ]


def sequencer(sequence: int) -> str:
    """S3's `sequencer`: hexadecimal of one length, so a later write of a key compares greater as a string."""
    return f"{sequence:018X}"


def build_event(write: ObjectWrite, configuration_id: str, now: datetime | None = None) -> dict[str, Any]:
    """The event that a function gets for a write: one record."""
    moment = (now or datetime.now(UTC)).astimezone(UTC)
    thing: dict[str, Any] = {"key": quote_plus(write.key, safe="/-_.*"), "sequencer": sequencer(write.sequence)}
    if write.event.startswith("ObjectCreated"):
        thing |= {"size": write.size, "eTag": write.etag}
    if write.version != "null":
        thing["versionId"] = write.version
    record = {
        "eventVersion": EVENT_VERSION,
        "eventSource": "aws:s3",
        "awsRegion": write.region,
        "eventTime": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "eventName": write.event,
        "userIdentity": {"principalId": f"AWS:{write.principal}"},
        "requestParameters": {"sourceIPAddress": write.source_ip},
        "responseElements": {"x-amz-request-id": write.request_id, "x-amz-id-2": write.host_id},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": configuration_id,
            "bucket": {
                "name": write.bucket,
                "ownerIdentity": {"principalId": "A3SHOALLOCAL"},
                "arn": f"arn:aws:s3:::{write.bucket}",
            },
            "object": thing,
        },
    }
    return {"Records": [record]}


def events_for(notifications: Sequence[NotificationLike], write: ObjectWrite) -> list[tuple[str, dict[str, Any]]]:
    """Function name and event for every notification that a write fires."""
    return [(each.function_name, build_event(write, each.configuration_id)) for each in matching(notifications, write)]
