"""Networks of the user's own, as the control plane asks the function that may read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shoal_core import errors
from shoal_core.aws.config import environment
from shoal_core.aws.warming import invoke
from shoal_core.errors import ShoalError, split_message


def network_inputs(dataset: str, version: str) -> dict[str, Any]:
    """What a dataset version gives to a network. Raises as `check_network` does."""
    return _asked({"task": "inputs", "dataset": dataset, "version": version})


def check_network(dataset: str, version: str, network: Mapping[str, Any]) -> dict[str, Any]:
    """Whether a network can be trained on a dataset version; `numbers`, `notes` and `warnings` where it can.

    Raises:
        BadInput: It can't: the function's own error, with reason and fix.
        Unavailable: The function can't be asked now.
    """
    return _asked({"task": "check", "dataset": dataset, "version": version, "network": dict(network)})


def _asked(task: dict[str, Any]) -> dict[str, Any]:
    answer = invoke(environment().check_network_function, task)
    if "errorType" not in answer:
        return answer
    kind = getattr(errors, str(answer["errorType"]), None)
    reason, fix = split_message(str(answer.get("errorMessage") or answer["errorType"]))
    if isinstance(kind, type) and issubclass(kind, ShoalError):
        raise kind(reason, fix)
    raise ShoalError(f"The network couldn't be checked: {reason}.", "The log tells why: `shoal logs check_network`.")
