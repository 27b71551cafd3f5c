"""Instances of predict that are there before their first request, with the models loaded already.

With SnapStart Lambda takes a snapshot of an instance when a version is published, and starts others from it: models are
loaded before it is taken, and what was true of that time only is let go after a start from it. A provisioned instance
loads them while it starts. Source: https://docs.aws.amazon.com/lambda/latest/dg/snapstart-runtime-hooks-python.html
"""

from __future__ import annotations

import os
from collections.abc import Callable

from shoal_core.aws.clients import client
from shoal_core.aws.config import environment
from shoal_core.aws.handler import logger
from shoal_core.aws.traffic import models
from shoal_core.errors import ShoalError

INITIALIZATION = "AWS_LAMBDA_INITIALIZATION_TYPE"
SNAPSHOT, PROVISIONED = "snap-start", "provisioned-concurrency"


def prepare(warm: Callable[[], None] | None = None) -> None:
    """Make this instance ready before its first request, where it is one that can. Called while the function starts.

    Args:
        warm: Loads the models; by default those of the parameter WarmModels.
    """
    kind, load = os.environ.get(INITIALIZATION), warm or warm_models
    if kind == PROVISIONED:
        load()
    elif kind == SNAPSHOT:
        # Lambda's runtime brings it.
        from snapshot_restore_py import register_after_restore, register_before_snapshot

        register_before_snapshot(load)
        register_after_restore(forget)


def warm_models() -> None:
    """Load the models of WarmModels. One that can't be loaded is told in the log; it is loaded by its first request."""
    for name in filter(None, map(str.strip, environment().warm_models.split(","))):
        try:
            models().production(name)
        except ShoalError as error:
            logger.warning("model not warmed", extra={"model": name, "reason": error.reason})


def forget() -> None:
    """Let go of connections and of answers about aliases: both are of the time of the snapshot; models stay."""
    client.cache_clear()
    models().forget_aliases()
