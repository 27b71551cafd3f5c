"""What a run costs on AWS, estimated from what its functions used. US dollars, us-east-1, no free tier.

Source: https://aws.amazon.com/lambda/pricing/ and https://aws.amazon.com/step-functions/pricing/ (November 2026).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Instance:
    """A SageMaker training instance.

    Attributes:
        hour: Dollars an hour, on demand.
        vcpus: Virtual processors.
        gpus: GPUs.
        gpu: Their kind; empty for none.
    """

    hour: float
    vcpus: int
    gpus: int = 0
    gpu: str = ""


# Training, on demand, us-east-1: https://aws.amazon.com/sagemaker/ai/pricing/, as public price lists told it in 2025.
# The page wasn't read anew in November 2026: check before a large run. A type that isn't here has no quote, and trains
# all the same.
SAGEMAKER_INSTANCES: Mapping[str, Instance] = {
    "ml.m5.large": Instance(0.115, 2),
    "ml.m5.xlarge": Instance(0.23, 4),
    "ml.m5.2xlarge": Instance(0.461, 8),
    "ml.m5.4xlarge": Instance(0.922, 16),
    "ml.c5.xlarge": Instance(0.204, 4),
    "ml.c5.2xlarge": Instance(0.408, 8),
    "ml.c5.4xlarge": Instance(0.816, 16),
    "ml.c5.9xlarge": Instance(1.836, 36),
    "ml.g4dn.xlarge": Instance(0.7364, 4, 1, "T4"),
    "ml.g4dn.2xlarge": Instance(0.94, 8, 1, "T4"),
    "ml.g4dn.12xlarge": Instance(4.89, 48, 4, "T4"),
    "ml.g5.xlarge": Instance(1.408, 4, 1, "A10G"),
    "ml.g5.2xlarge": Instance(1.515, 8, 1, "A10G"),
    "ml.g5.12xlarge": Instance(7.09, 48, 4, "A10G"),
    "ml.p3.2xlarge": Instance(3.825, 8, 1, "V100"),
    "ml.p3.8xlarge": Instance(14.688, 32, 4, "V100"),
}


def sagemaker_cost(instance: str, count: int, seconds: float) -> float | None:
    """Dollars for instances of a training job over the seconds that are billed; None for a type without a price."""
    known = SAGEMAKER_INSTANCES.get(instance)
    return None if known is None else known.hour * count * seconds / 3600
