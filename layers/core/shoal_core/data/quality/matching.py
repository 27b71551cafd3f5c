"""Regular expressions over untrusted cells, bounded: Python's matcher can take exponential time for some patterns.

A cell longer than `MAX_PATTERN_TEXT` characters never matches, and `GROUP` matches together have `MATCH_SECONDS`. The
clock needs the main thread, where Lambda runs a handler; elsewhere the function's own timeout is the bound.
"""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from shoal_core.errors import BadConfig

MAX_PATTERN_TEXT = 1000
MATCH_SECONDS = 10.0
# To set the clock costs as much as ten matches.
GROUP = 1000


def match_all(pattern: re.Pattern[str], texts: Sequence[str]) -> list[bool]:
    """Which texts match as a whole.

    Raises:
        BadConfig: Some of them took longer than `MATCH_SECONDS`.
    """
    found: list[bool] = []
    for start in range(0, len(texts), GROUP):
        with _clock(pattern):
            found += [
                len(text) <= MAX_PATTERN_TEXT and pattern.fullmatch(text) is not None
                for text in texts[start : start + GROUP]
            ]
    return found


@contextmanager
def _clock(pattern: re.Pattern[str]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise BadConfig(
            f"dataset.yaml: the pattern {pattern.pattern!r} takes more than {MATCH_SECONDS:g} s.",
            "Write it without a repeat inside a repeat, such as (a+)+.",
        )

    previous = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, MATCH_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
