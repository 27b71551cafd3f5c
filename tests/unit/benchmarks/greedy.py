"""A contender that takes 150 MB here and 150 MB in a child, at the same time."""

import os
import subprocess
import sys
import time

from benchmarks.data.contender import Task, main

HELD = "held = b'x' * 150_000_000; import time; time.sleep(1)"


def take(task: Task) -> None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else task.workers
    with task.clock():
        child = subprocess.Popen([sys.executable, "-c", HELD])
        held = b"x" * 150_000_000
        child.wait()
    sys.stdout.write("what a library prints isn't the answer\n")
    (task.out / "made").write_bytes(held[:10])
    task.measured.update(samples=7, cores=cores)


def fail(task: Task) -> None:
    time.sleep(0)
    raise ValueError(f"no {task.source}")


if __name__ == "__main__":
    main({"take": take, "fail": fail})
