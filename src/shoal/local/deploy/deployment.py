"""What a deployment made: the facts that the middleware, the workers and the gateway run on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from shoal.local.compute.spec import FunctionSpec
from shoal.local.gateway_event import HttpApiSpec
from shoal.local.permissions import Authorizer, Inventory, RolePolicies
from shoal.local.streaming.mappings import EventSourceMapping


@dataclass(frozen=True)
class Notification:
    """One S3 event notification of a bucket to a function.

    Attributes:
        bucket: Name of the bucket.
        function_name: Physical name of the function to invoke.
        events: Event patterns as S3 writes them, such as `s3:ObjectCreated:*`.
        prefix: Only keys that start with it.
        suffix: Only keys that end with it.
        configuration_id: S3's `configurationId` in the event.
    """

    bucket: str
    function_name: str
    events: tuple[str, ...]
    prefix: str = ""
    suffix: str = ""
    configuration_id: str = ""


@dataclass(frozen=True)
class Schedule:
    """A rule that invokes a function every so often.

    Attributes:
        rule: Physical name of the rule; whether it is enabled is moto's to know.
        seconds: Time between two invocations.
        function_name: Physical name of the function to invoke.
        payload: The event, as JSON text; empty for EventBridge's own.
    """

    rule: str
    seconds: float
    function_name: str
    payload: str = ""


@dataclass(frozen=True)
class StateMachine:
    """A state machine as created.

    Attributes:
        name: Physical name.
        arn: ARN, what `StartExecution` takes.
        definition: Amazon States Language with substitutions made and references resolved.
        role_arn: Role whose permissions the interpreter has.
        logging: `LoggingConfiguration` in the API's form (`level`, `includeExecutionData`, `destinations`).
    """

    name: str
    arn: str
    definition: dict[str, Any]
    role_arn: str
    logging: dict[str, Any] = field(default_factory=dict)


@dataclass
class Deployment:
    """Everything a deployment made.

    Attributes:
        stack_name: Name of the stack.
        region: Region that ARNs say.
        account: Account that ARNs say.
        outputs: The template's outputs, resolved.
        functions: Functions to run as workers.
        http_apis: HTTP APIs for the gateway.
        notifications: S3 events that start functions.
        schedules: Rules that start functions every so often.
        mappings: Streams and queues whose records functions get.
        roles: Policies by role ARN, for `permissions.Authorizer`.
        state_machines: By logical id.
        resources: Physical id (what `Ref` gives) by logical id.
        secrets: Value of every secret by its name; keep and pass it to the next deployment.
        secret_arns: ARN of every secret by its name.
        partition_keys: Name of the partition key by table name.
        bucket_policies: Policy document by bucket name. Recorded only, moto doesn't hold them.
    """

    stack_name: str
    region: str
    account: str
    outputs: dict[str, Any] = field(default_factory=dict)
    functions: list[FunctionSpec] = field(default_factory=list)
    http_apis: list[HttpApiSpec] = field(default_factory=list)
    notifications: list[Notification] = field(default_factory=list)
    schedules: list[Schedule] = field(default_factory=list)
    mappings: list[EventSourceMapping] = field(default_factory=list)
    roles: dict[str, RolePolicies] = field(default_factory=dict)
    state_machines: dict[str, StateMachine] = field(default_factory=dict)
    resources: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    secret_arns: dict[str, str] = field(default_factory=dict)
    partition_keys: dict[str, str] = field(default_factory=dict)
    bucket_policies: dict[str, dict[str, Any]] = field(default_factory=dict)

    def authorizer(self) -> Authorizer:
        """The permission checks of this stack's roles."""
        inventory = Inventory(self.account, self.region, self.partition_keys, self.secret_arns)
        return Authorizer(self.roles, inventory)
