"""What permissions are about: a request to an AWS service, and what it asks for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote

# Condition keys that a request's context can hold, in lower case; policies with others are refused at deploy.
CONTEXT_KEYS = frozenset(
    {
        "aws:principalarn",
        "aws:principalaccount",
        "aws:requestedregion",
        "aws:securetransport",
        "dynamodb:leadingkeys",
        "events:source",
        "events:detail-type",
        "cloudwatch:namespace",
        "iam:passedtoservice",
        "sagemaker:instancetypes",
        "s3:prefix",
        "s3:delimiter",
        "s3:max-keys",
        "s3:versionid",
    }
)
_CREDENTIAL = re.compile(r"([A-Za-z0-9]+)/(\d{8})/([a-z0-9-]+)/([a-z0-9-]+)/aws4_request")


@dataclass(frozen=True)
class Request:
    """One AWS API call as it came in.

    Attributes:
        method: HTTP method.
        host: `Host` header.
        path: Path, percent-decoded.
        query: Query string as sent.
        headers: By name, in any case.
        body: The body, whole for the JSON and Query protocols and S3's DeleteObjects; elsewhere it isn't read.
    """

    method: str
    host: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def header(self, name: str) -> str:
        """A header's value, or the empty string."""
        return next((value for key, value in self.headers.items() if key.lower() == name.lower()), "")

    @property
    def credential(self) -> re.Match[str] | None:
        """Access key, date, region and service of the signature."""
        signed = self.header("Authorization") or unquote(self.query)
        return _CREDENTIAL.search(signed)

    @property
    def access_key(self) -> str:
        """Access key that signed the request, or the empty string."""
        return self.credential.group(1) if self.credential else ""

    @property
    def parameters(self) -> dict[str, str]:
        """Query parameters; one without a value is the empty string."""
        return {key: values[0] for key, values in parse_qs(self.query, keep_blank_values=True).items()}


@dataclass(frozen=True)
class Inventory:
    """What the names in requests stand for.

    Attributes:
        account: Twelve digits.
        region: Region of the stack.
        partition_keys: Partition key's attribute name by table name, for `dynamodb:LeadingKeys`.
        secret_arns: ARN by secret name: a policy names the ARN, a request may name the secret.
    """

    account: str
    region: str
    partition_keys: Mapping[str, str] = field(default_factory=dict)
    secret_arns: Mapping[str, str] = field(default_factory=dict)

    def arn(self, service: str, resource: str) -> str:
        """An ARN of the stack's account and region; a resource that is an ARN already stays."""
        return resource if resource.startswith("arn:") else f"arn:aws:{service}:{self.region}:{self.account}:{resource}"


@dataclass(frozen=True)
class Access:
    """One permission that a request needs.

    Attributes:
        action: Such as `s3:GetObject`.
        resource: ARN, or `*` for an action without a resource.
        context: Values of condition keys.
    """

    action: str
    resource: str
    context: Mapping[str, list[str]] = field(default_factory=dict)
