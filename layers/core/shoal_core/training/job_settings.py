"""What the stack says about its training jobs, and what a run's job is."""

from __future__ import annotations

import json
import re

from pydantic import Field

from shoal_core.data.compute_config import MAX_INSTANCES, ComputeConfig
from shoal_core.errors import BadConfig, ShoalError
from shoal_core.frozen import Frozen

# AWS's Deep Learning Containers: https://github.com/aws/deep-learning-containers/blob/master/available_images.md
_IMAGES = {
    True: "pytorch-training:2.6.0-gpu-py312-cu126-ubuntu22.04-sagemaker",
    False: "pytorch-training:2.6.0-cpu-py312-ubuntu22.04-sagemaker",
}
_REGISTRY = "763104351884"
# Regions whose images lie in that registry.
_REGIONS = re.compile(
    "us-(east|west)-[12]|ca-central-1|sa-east-1|eu-(west-[123]|central-1|north-1)|"
    "ap-(south-1|southeast-[12]|northeast-[123])"
)
_IMAGE = re.compile(r"[0-9]{12}\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com(\.cn)?/[^\s]+")
_GPU_FAMILIES = ("ml.g", "ml.p")


class JobOptions(Frozen):
    """What the stack says about its training jobs: the JSON in `SHOAL_SAGEMAKER`."""

    stack: str
    region: str
    image: str = ""
    instance: str
    count: int = Field(default=1, ge=1, le=MAX_INSTANCES)
    spot: bool = False
    hours: float = Field(default=24, gt=0)
    key: str = ""
    subnets: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    endpoint: str = ""

    @classmethod
    def parse(cls, text: str) -> JobOptions:
        """Read the variable. Raises `ShoalError` where the template made something else of it."""
        try:
            fields = json.loads(text)
            for name in ("subnets", "groups"):
                fields[name] = [part for part in str(fields.get(name, "")).split(",") if part]
            return cls.model_validate(fields)
        except (ValueError, TypeError, AttributeError) as error:
            raise ShoalError(
                f"SHOAL_SAGEMAKER doesn't describe training jobs: {error}.", "Mend template.yaml."
            ) from error


class JobSettings(Frozen):
    """What a run's job is: `job` in settings.json, resolved from dataset.yaml, the request and the stack."""

    instance: str
    count: int
    spot: bool
    hours: float
    script: str | None = None
    script_sha256: str | None = None


def resolve_job(compute: ComputeConfig, options: JobOptions) -> JobSettings:
    """A run's job: what was asked for, and the stack's settings for the rest."""
    return JobSettings(
        instance=compute.instance or options.instance,
        count=compute.count or options.count,
        spot=options.spot if compute.spot is None else compute.spot,
        hours=compute.hours or options.hours,
    )


def image_of(options: JobOptions, instance: str) -> str:
    """The container image: the stack's, or AWS's own for PyTorch. Raises `BadConfig` where neither is known."""
    if options.image:
        if not _IMAGE.fullmatch(options.image):
            raise BadConfig(
                f"SageMakerImage is {options.image!r}, which isn't an image of an ECR registry.",
                "Set it to ACCOUNT.dkr.ecr.REGION.amazonaws.com/REPOSITORY:TAG.",
            )
        return options.image
    if not _REGIONS.fullmatch(options.region):
        raise BadConfig(
            f"Shoal doesn't know the registry of AWS's PyTorch images in {options.region}.",
            "Deploy the stack with SageMakerImage; AWS's list of Deep Learning Containers has its address.",
        )
    gpu = instance.startswith(_GPU_FAMILIES)
    return f"{_REGISTRY}.dkr.ecr.{options.region}.amazonaws.com/{_IMAGES[gpu]}"
