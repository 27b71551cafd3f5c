"""The environment that template.yaml gives every function, read once and checked."""

from __future__ import annotations

import os
from functools import cache

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shoal_core.errors import ShoalError

PREFIX = "SHOAL_"


class Environment(BaseModel):
    """Names of the stack's resources. A function sees only those that its policy lets it use."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    bucket: str = Field(default="", description="where users upload")
    artifacts_bucket: str = Field(default="", description="where Shoal writes")
    table: str = Field(default="", description="the catalog")
    state_machine_arn: str = ""
    source_state_machine_arn: str = ""
    source_rule: str = Field(default="", description="the rule that looks for sources that are due")
    token_secret_arn: str = ""
    architecture: str = Field(default="x86_64", pattern="^(x86_64|arm64)$")
    endpoint_url: str = Field(default="", description="AWS endpoint; empty on AWS, set by the embedded cloud")


@cache
def environment() -> Environment:
    """This function's environment. Raises `ShoalError` naming the variable that is wrong."""
    values = {key[len(PREFIX) :].lower(): value for key, value in os.environ.items() if key.startswith(PREFIX)}
    try:
        return Environment.model_validate(values)
    except ValidationError as error:
        field = str(error.errors()[0]["loc"][0]).upper()
        raise ShoalError(
            f"Environment variable {PREFIX}{field} is invalid: {error.errors()[0]['msg']}.", "Mend template.yaml."
        ) from error


def memory_mb() -> int:
    """Memory of this function in MB (`AWS_LAMBDA_FUNCTION_MEMORY_SIZE`); 1,769 outside Lambda."""
    return int(os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "1769"))
