"""What a run costs on AWS, estimated from what its functions used. US dollars, us-east-1, no free tier.

Source: https://aws.amazon.com/lambda/pricing/ and https://aws.amazon.com/step-functions/pricing/ (November 2026).
"""

from __future__ import annotations

LAMBDA_GB_SECOND = {"x86_64": 0.0000166667, "arm64": 0.0000133334}
LAMBDA_REQUEST = 0.20 / 1_000_000
STATE_TRANSITION = 0.025 / 1_000


def lambda_cost(gb_seconds: float, invocations: int, architecture: str) -> float:
    """Dollars for invocations and the memory-time they held."""
    return gb_seconds * LAMBDA_GB_SECOND[architecture] + invocations * LAMBDA_REQUEST


def transitions_cost(invocations: int, rounds: int, children: int = 0) -> float:
    """Dollars for state transitions: one per task, two per round for its Map and Choice, fourteen around them.

    Starting a child of a Distributed Map is one more.
    """
    return (invocations + 2 * rounds + children + 14) * STATE_TRANSITION
