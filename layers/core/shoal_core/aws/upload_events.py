"""S3's event records, as the domain knows uploads."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote_plus

from aws_lambda_powertools.utilities.parser.models import S3RecordModel

from shoal_core.errors import BadInput


def uploaded(record: S3RecordModel) -> dict[str, Any]:
    """The fields of the `registry.ingesting.Upload` that a record tells of.

    The sequencer orders events of one key, the time those of different keys.
    """
    stored = record.s3.object
    if stored is None:
        raise BadInput("An S3 event names no object.")
    return {
        "key": unquote_plus(stored.key),
        "version": stored.versionId,
        "size": int(stored.size or 0),
        "order": f"{record.eventTime.isoformat()}#{stored.sequencer}",
        "who": record.userIdentity.principalId,
        "address": _address(record),
    }


def _address(record: S3RecordModel) -> str:
    """The request's IP address, which the model holds as a network of one, or the service that asked."""
    return str(record.requestParameters.sourceIPAddress).removesuffix("/32").removesuffix("/128")
