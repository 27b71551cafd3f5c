"""What the stack trains with, from its functions' environment."""

from __future__ import annotations

from shoal_core.aws.config import environment
from shoal_core.training.job_settings import JobOptions
from shoal_core.training.worker import Worker


def job_options() -> JobOptions | None:
    """The stack's SageMaker jobs; None where it has none."""
    return JobOptions.parse(environment().sagemaker) if environment().sagemaker else None


def worker() -> Worker:
    """What the stack's functions that train have."""
    return Worker(memory_mb=environment().training_memory)
