"""The environment that template.yaml gives every function, read once and checked."""

from __future__ import annotations

import os
from functools import cache

from pydantic import ConfigDict, Field, ValidationError

from shoal_core.errors import ShoalError
from shoal_core.frozen import Frozen
from shoal_core.registry.jwt_claims import OidcSettings

PREFIX = "SHOAL_"


class Environment(Frozen):
    """Names of the stack's resources. A function sees only those that its policy lets it use."""

    model_config = ConfigDict(extra="ignore")

    bucket: str = Field(default="", description="where users upload")
    artifacts_bucket: str = Field(default="", description="where Shoal writes")
    table: str = Field(default="", description="the catalog")
    state_machine_arn: str = ""
    source_state_machine_arn: str = ""
    batch_state_machine_arn: str = ""
    tuning_state_machine_arn: str = ""
    history_events: int = Field(default=0, description="after so many a run goes on in a new execution; 0: as usual")
    start_training_function: str = Field(default="", description="which also quotes runs")
    sagemaker: str = Field(default="", description="the stack's training jobs, JSON; empty where it has none")
    training_memory: int = Field(default=1769, ge=128, description="of the functions that train, in MB")
    source_rule: str = Field(default="", description="the rule that looks for sources that are due")
    token_secret_arn: str = ""
    predict_function: str = Field(
        default="", description="the data plane, to warm a version up and to read its metrics"
    )
    check_network_function: str = Field(default="", description="what checks users' own networks")
    canary_rule: str = Field(default="", description="the rule that looks after canaries")
    default_model: str = Field(default="", description="what POST /invocations means when it names no model")
    requests_stream: str = Field(default="", description="records to answer; empty where the stack has no streams")
    requests_queue: str = Field(default="", description="URL of the queue of messages to answer")
    predictions_stream: str = Field(default="", description="answers; empty where the stack has no streams")
    stream_journal: str = Field(default="", pattern="^(true|false|)$", description="whether answers go to S3, too")
    dead_letter_queue: str = Field(default="", description="URL of the queue of records that can't be answered")
    warm_models: str = Field(default="", description="models loaded before the first request, divided by commas")
    oidc_issuer: str = Field(default="", description="whose JWTs are believed; empty for none")
    oidc_audience: str = Field(default="", description="what those must be for, divided by commas; empty for none")
    oidc_clients: str = Field(default="", description="clients that they must be issued to, divided by commas")
    oidc_claim: str = Field(default="", description="a claim with scopes beside scope and cognito:groups")
    oidc_prefix: str = Field(default="shoal/", description="what Shoal's scopes start with in a JWT")
    oidc_plan: str = Field(default="", description="the plan of everybody who comes with a JWT")
    architecture: str = Field(default="x86_64", pattern="^(x86_64|arm64)$")
    endpoint_url: str = Field(default="", description="AWS endpoint; empty on AWS, set by the embedded cloud")

    def oidc(self) -> OidcSettings:
        """Which JWTs are believed."""
        return OidcSettings(
            self.oidc_issuer, _parts(self.oidc_audience), _parts(self.oidc_clients), self.oidc_claim, self.oidc_prefix
        )


def _parts(text: str) -> tuple[str, ...]:
    return tuple(part for part in map(str.strip, text.split(",")) if part)


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
