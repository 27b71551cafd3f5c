"""Start of a worker process: tie its life to the cloud's, bound its data segment, then become the Lambda runtime.

Run as a script by `shoal.local.compute.worker`: `launcher.py PARENT_PID DATA_BYTES HANDLER`. It imports nothing but
the standard library and the runtime, since every import here is part of each cold start.
"""

from __future__ import annotations

import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """Ask Linux to kill this process as soon as its parent is gone, even by kill -9.

    Elsewhere there's no such request: the runtime's poll fails when the Runtime API's connection breaks, and it exits.

    Args:
        parent: The process id that the caller had when it started this one; when it's no longer the parent, it died
            before the request took effect, and this process exits.
    """
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)


def limit_data(size: int) -> None:
    """Bound the private writable memory of this process to `size` bytes; 0 for no bound.

    Only a back-stop against one huge allocation between two samples of the memory watch: it counts reserved memory
    (thread stacks, arenas), so the caller leaves generous room above the function's memory.
    """
    if size and sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (size, size))


def main(arguments: list[str]) -> None:
    """Become the runtime; returns only when that exits."""
    parent, size, handler = arguments
    die_with_parent(int(parent))
    limit_data(int(size))
    from awslambdaric.__main__ import main as run  # type: ignore[import-untyped]

    run(["awslambdaric", handler])


if __name__ == "__main__":
    main(sys.argv[1:])
