"""Which IAM actions a request to S3 asks for.

Reference: https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html
"""

from __future__ import annotations

import re
from html import unescape
from urllib.parse import unquote

from shoal.local.access import Access, Inventory, Request

_VIRTUAL_HOST = re.compile(r"^(?P<bucket>[a-z0-9][a-z0-9.-]+?)\.(?:s3[.-].*|localhost(?::\d+)?)$")
# S3: sub-resource of the query → what follows Get, Put, Delete in the action's name.
_S3_OBJECT_PARTS = {"tagging": "Tagging", "acl": "Acl", "retention": "Retention", "legal-hold": "LegalHold"}
_S3_BUCKET_PARTS = {
    "accelerate": "AccelerateConfiguration",
    "acl": "BucketAcl",
    "cors": "BucketCORS",
    "encryption": "EncryptionConfiguration",
    "lifecycle": "LifecycleConfiguration",
    "location": "BucketLocation",
    "logging": "BucketLogging",
    "notification": "BucketNotification",
    "object-lock": "BucketObjectLockConfiguration",
    "ownershipControls": "BucketOwnershipControls",
    "policy": "BucketPolicy",
    "policyStatus": "BucketPolicyStatus",
    "publicAccessBlock": "BucketPublicAccessBlock",
    "replication": "ReplicationConfiguration",
    "requestPayment": "BucketRequestPayment",
    "tagging": "BucketTagging",
    "versioning": "BucketVersioning",
    "website": "BucketWebsite",
}


def identify_s3(request: Request, inventory: Inventory) -> list[Access]:
    """Permissions of a request to S3, path style or virtual-hosted; empty when it isn't one of S3's operations."""
    host = _VIRTUAL_HOST.match(request.host)
    path = request.path if not host else f"/{host['bucket']}{request.path}"
    bucket, _, key = path.removeprefix("/").partition("/")
    if not bucket:
        return [Access("s3:ListAllMyBuckets", "*")] if request.method == "GET" else []
    arn = f"arn:aws:s3:::{bucket}"
    return _s3_object(request, arn, key) if key else _s3_bucket(request, arn)


def _s3_object(request: Request, bucket: str, key: str) -> list[Access]:
    query = request.parameters
    arn = f"{bucket}/{key}"
    version = query.get("versionId", "")
    context = {"s3:VersionId": [version]} if version else {}
    infix = "Version" if version else ""
    part = next((suffix for name, suffix in _S3_OBJECT_PARTS.items() if name in query), "")
    match request.method:
        case "GET" | "HEAD":
            if "uploadId" in query:
                return [Access("s3:ListMultipartUploadParts", arn)]
            if "attributes" in query:
                return [Access(f"s3:GetObject{infix}{suffix}", arn, context) for suffix in ("", "Attributes")]
            return [Access(f"s3:GetObject{infix}{part}", arn, context)]
        case "PUT":
            if part:
                return [Access(f"s3:PutObject{infix}{part}", arn, context)]
            tagged = [Access("s3:PutObjectTagging", arn)] if request.header("x-amz-tagging") else []
            return [Access("s3:PutObject", arn), *_s3_copied(request), *tagged]
        case "POST":
            return [Access("s3:PutObject", arn)] if {"uploads", "uploadId"} & set(query) else []
        case "DELETE":
            if "uploadId" in query:
                return [Access("s3:AbortMultipartUpload", arn)]
            return [Access(f"s3:DeleteObject{infix}{part}", arn, context)]
    return []


def _s3_copied(request: Request) -> list[Access]:
    source = request.header("x-amz-copy-source")
    if not source:
        return []
    path, _, version = source.lstrip("/").partition("?versionId=")
    arn = f"arn:aws:s3:::{unquote(path)}"
    if version:
        return [Access("s3:GetObjectVersion", arn, {"s3:VersionId": [version]})]
    return [Access("s3:GetObject", arn)]


def _s3_bucket(request: Request, arn: str) -> list[Access]:
    query = request.parameters
    part = next((suffix for name, suffix in _S3_BUCKET_PARTS.items() if name in query), "")
    listed = {f"s3:{name}": [query[name]] for name in ("prefix", "delimiter", "max-keys") if name in query}
    match request.method:
        case "HEAD":
            return [Access("s3:ListBucket", arn)]
        case "GET" if part:
            return [Access(f"s3:Get{part}", arn)]
        case "GET":
            if "versions" in query:
                return [Access("s3:ListBucketVersions", arn, listed)]
            if "uploads" in query:
                return [Access("s3:ListBucketMultipartUploads", arn, listed)]
            return [Access("s3:ListBucket", arn, listed)]
        case "PUT":
            return [Access(f"s3:Put{part}" if part else "s3:CreateBucket", arn)]
        case "DELETE" if part:
            # Most settings of a bucket have no action of their own for deletion: Put covers it.
            verb = "Delete" if part in ("BucketPolicy", "BucketWebsite") else "Put"
            return [Access(f"s3:{verb}{part}", arn)]
        case "DELETE":
            return [Access("s3:DeleteBucket", arn)]
        case "POST" if "delete" in query:
            return _s3_deleted(request.body.decode(), arn)
    return []


def _s3_deleted(body: str, arn: str) -> list[Access]:
    accesses = []
    for item in re.findall(r"<Object>(.*?)</Object>", body, re.DOTALL):
        key = re.search(r"<Key>(.*?)</Key>", item, re.DOTALL)
        if key is None:
            return []
        infix = "Version" if "<VersionId>" in item else ""
        accesses.append(Access(f"s3:DeleteObject{infix}", f"{arn}/{unescape(key.group(1))}"))
    return accesses
