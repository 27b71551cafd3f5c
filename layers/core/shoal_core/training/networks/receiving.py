"""A network's way from the bucket that users write to into Shoal's own, where nobody changes it."""

from __future__ import annotations

import hashlib
from typing import Protocol

from shoal_core.data.config import SourceFile
from shoal_core.errors import BadNetwork, NotFound, TooLarge
from shoal_core.keys import NetworkKeys
from shoal_core.store import ObjectStore
from shoal_core.training.networks.config import LIMITS

_AGAIN = "Upload it again: `shoal train DATASET --network FILE`, or PutObject to networks/<sha256>.onnx."


class Uploads(Protocol):
    """What receiving needs of the bucket that users write to."""

    def read(self, key: str, version: str | None = None, etag: str | None = None) -> bytes:
        """All bytes of an object. Raises `NotFound`."""
        ...

    def describe(self, key: str, version: str | None = None) -> SourceFile:
        """An object's exact version and size. Raises `NotFound`."""
        ...


def receive_network(uploads: Uploads, artifacts: ObjectStore, sha256: str) -> None:
    """Take over an uploaded network, unless it was taken over before.

    Args:
        uploads: The bucket that users write to.
        artifacts: Where the network goes.
        sha256: Of the file, which its key names.

    Raises:
        BadNetwork: It isn't there, or is another file than its key says.
        TooLarge: It has more bytes than a worker can train; it isn't read then.
    """
    keys = NetworkKeys(sha256)
    if artifacts.exists(keys.network):
        return
    try:
        found = uploads.describe(keys.upload)
    except NotFound as error:
        raise BadNetwork(f"There is no network at {keys.upload}.", _AGAIN) from error
    if found.size > LIMITS.model_bytes:
        raise TooLarge(
            f"The network has {found.size:,} bytes; {LIMITS.model_bytes:,} are allowed.", "Train a smaller network."
        )
    data = uploads.read(keys.upload, found.version)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise BadNetwork(f"The file at {keys.upload} has another sha256 than its name.", _AGAIN)
    artifacts.write(keys.network, data)
