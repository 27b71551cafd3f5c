"""Which invocations X-Ray traces.

Source: https://docs.aws.amazon.com/lambda/latest/dg/services-xray.html: one request a second, and 5 % of the others.
"""

from __future__ import annotations

import time
from collections.abc import Callable

SAMPLE_EVERY = 20


class Sampler:
    """Chooses the invocations of a function that are traced: each second's first, and every twentieth of the others.

    Args:
        clock: Tells seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._second = -1
        self._others = 0

    def takes_next(self) -> bool:
        """Whether the next invocation is traced."""
        second = int(self._clock())
        if second != self._second:
            self._second = second
            return True
        self._others += 1
        return self._others % SAMPLE_EVERY == 0
