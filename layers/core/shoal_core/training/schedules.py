"""The learning rate as a pure function of the step, so that any worker can be retried at any step."""

from __future__ import annotations

import math


def learning_rate_at(step: int, *, peak: float, warmup_steps: int, total_steps: int) -> float:
    """Linear warm-up, then a half cosine down to nearly 0 (I. Loshchilov and F. Hutter, "SGDR", 2017).

    Args:
        step: Local step, from 0.
        peak: Learning rate at the end of the warm-up.
        warmup_steps: Steps of the warm-up; step `warmup_steps - 1` is the first at the peak.
        total_steps: Steps of the whole run; the last one still learns a little.

    Returns:
        A learning rate in (0, peak] for every step from 0 to `total_steps - 1`.
    """
    if step < warmup_steps:
        return peak * ((step + 1) / warmup_steps)
    done = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return peak * 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))
