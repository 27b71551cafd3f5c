"""The environment variables of a worker: AWS's, the function's own, and nothing of the user's shell.

Source: https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from shoal.local.compute.errors import BadFunction
from shoal.local.compute.spec import VERSION, FunctionSpec

RESERVED = frozenset(
    {
        "_HANDLER",
        "_X_AMZN_TRACE_ID",
        "AWS_ACCESS_KEY",
        "AWS_ACCESS_KEY_ID",
        "AWS_DEFAULT_REGION",
        "AWS_EXECUTION_ENV",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
        "AWS_LAMBDA_FUNCTION_NAME",
        "AWS_LAMBDA_FUNCTION_VERSION",
        "AWS_LAMBDA_INITIALIZATION_TYPE",
        "AWS_LAMBDA_LOG_GROUP_NAME",
        "AWS_LAMBDA_LOG_STREAM_NAME",
        "AWS_LAMBDA_RUNTIME_API",
        "AWS_REGION",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "LAMBDA_RUNTIME_DIR",
        "LAMBDA_TASK_ROOT",
    }
)


def check_environment(spec: FunctionSpec) -> None:
    """Refuse the names that AWS keeps for itself. Raises `BadFunction`."""
    taken = sorted(RESERVED & spec.environment.keys())
    if taken:
        raise BadFunction(
            f"Function {spec.name!r} sets environment variables that Lambda keeps for itself: {', '.join(taken)}.",
            "Rename them.",
        )


def worker_environment(spec: FunctionSpec, runtime_api: str, scratch: Path, log_stream: str) -> dict[str, str]:
    """All variables of one worker.

    Thread settings (`OMP_NUM_THREADS` and the like) aren't touched: AWS doesn't set them either.

    Args:
        spec: The function.
        runtime_api: `host:port` of this worker's Runtime API.
        scratch: The worker's own folder for temporary files.
        log_stream: The worker's log stream.
    """
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    paths = [str(path) for path in (spec.code, *spec.python_path)]
    if own := spec.environment.get("PYTHONPATH"):
        paths.append(own)
    environment = {
        "LANG": os.environ.get("LANG", "C.UTF-8"),
        "PATH": os.environ.get("PATH", os.defpath),
        "TZ": ":UTC",
        "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
        "AWS_XRAY_DAEMON_ADDRESS": "127.0.0.1:2000",
        **spec.environment,
        "PYTHONPATH": os.pathsep.join(paths),
        # What AWS has no need of: without these, boto3 would read the user's files and ask for machine metadata.
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "TMPDIR": str(scratch),
        "_HANDLER": spec.handler,
        "AWS_DEFAULT_REGION": spec.region,
        "AWS_REGION": spec.region,
        "AWS_EXECUTION_ENV": f"AWS_Lambda_python{python}",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(spec.memory_mb),
        "AWS_LAMBDA_FUNCTION_NAME": spec.name,
        "AWS_LAMBDA_FUNCTION_VERSION": VERSION,
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": spec.log_group,
        "AWS_LAMBDA_LOG_STREAM_NAME": log_stream,
        "AWS_LAMBDA_RUNTIME_API": runtime_api,
        "LAMBDA_RUNTIME_DIR": "/var/runtime",
        "LAMBDA_TASK_ROOT": str(spec.code),
    }
    if spec.credentials is not None:
        environment["AWS_ACCESS_KEY_ID"] = spec.credentials.access_key
        environment["AWS_SECRET_ACCESS_KEY"] = spec.credentials.secret_key
        if spec.credentials.session_token is not None:
            environment["AWS_SESSION_TOKEN"] = spec.credentials.session_token
    return environment
