"""How much memory worker processes hold."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection

import psutil


def resident_bytes(pid: int) -> int:
    """The resident set of one process in bytes; 0 when it's gone."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def peak_bytes(pid: int) -> int:
    """The most that a process has ever held, in bytes, as the kernel recorded it; 0 where there's no such record.

    It catches what rises and falls between two samples.
    """
    if sys.platform != "linux":
        return 0
    try:
        with open(f"/proc/{pid}/status", "rb", buffering=0) as file:  # noqa: PTH123 - after every invocation
            status = file.read()
    except OSError:
        return 0
    _, found, rest = status.partition(b"VmHWM:")
    return int(rest.split(None, 1)[0]) * 1024 if found else 0


def children_bytes(leaders: Collection[int]) -> dict[int, int]:
    """What the other processes in each leader's process group hold, in bytes; leaders without any are left out.

    Pages shared with the parent after a fork count proportionally, or a fork would look like a doubling.
    """
    held: dict[int, int] = {}
    for pid in psutil.pids():
        if pid in leaders:
            continue
        try:
            leader = os.getpgid(pid)
            if leader in leaders:
                held[leader] = held.get(leader, 0) + _proportional_bytes(pid)
        except (OSError, psutil.Error):
            continue
    return held


def _proportional_bytes(pid: int) -> int:
    usage = psutil.Process(pid).memory_full_info()
    return int(getattr(usage, "pss", usage.uss))
