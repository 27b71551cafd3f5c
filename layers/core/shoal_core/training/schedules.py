"""The learning rate as a pure function of the step, so that any worker can be retried at any step."""

from __future__ import annotations

import math

from shoal_core.data.config_types import Schedule


def learning_rate_at(
    step: int,
    *,
    peak: float,
    warmup_steps: int,
    total_steps: int,
    schedule: Schedule = "cosine",
    decay_factor: float = 0.1,
    decay_steps: int = 1,
) -> float:
    """Linear warm-up, then what the schedule says.

    `cosine`: a half cosine down to nearly 0 (I. Loshchilov and F. Hutter, "SGDR", 2017). `step`: multiplied by
    `decay_factor` every `decay_steps` steps, those of the warm-up included. `constant` and `plateau`: the peak; what a
    plateau takes off is decided between rounds, by `callbacks.ReduceOnPlateau`.

    Args:
        step: Local step, from 0.
        peak: Learning rate at the end of the warm-up.
        warmup_steps: Steps of the warm-up, or 0; step `warmup_steps - 1` is the first at the peak.
        total_steps: Steps of the whole run; the last one still learns a little.
        schedule: What comes after the warm-up.
        decay_factor: See `step`.
        decay_steps: See `step`.

    Returns:
        A learning rate in (0, peak] for every step from 0 to `total_steps - 1`.
    """
    if step < warmup_steps:
        return peak * ((step + 1) / warmup_steps)
    if schedule == "cosine":
        done = (step - warmup_steps) / max(1, total_steps - warmup_steps)
        return peak * 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))
    if schedule == "step":
        return peak * math.pow(decay_factor, step // decay_steps)
    return peak
