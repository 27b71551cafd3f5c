"""What `sam local` needs to run functions in containers against the embedded cloud: their environment, as a file.

`sam local invoke` can't resolve references to resources, so each function's variables are written out for its
`--env-vars`; the AWS endpoint is the laptop's loopback as a container sees it.

Source: https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/
serverless-sam-cli-using-invoke.html
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from shoal.local.compute.spec import FunctionSpec

FILE = "sam-env.json"
CONTAINER_HOST = "host.docker.internal"


def environment_file(functions: Iterable[FunctionSpec], logical_ids: Mapping[str, str], endpoint: str) -> bytes:
    """The `--env-vars` document.

    Args:
        functions: The deployed functions.
        logical_ids: Physical name -> logical id of the functions.
        endpoint: URL of the AWS endpoint on the laptop.
    """
    inside = endpoint.replace("127.0.0.1", CONTAINER_HOST)
    variables = {
        logical_ids[function.name]: {
            name: inside if value == endpoint else value for name, value in function.environment.items()
        }
        for function in functions
    }
    return json.dumps(variables, indent=2, sort_keys=True).encode() + b"\n"


def write_environment_file(
    home: Path, functions: Iterable[FunctionSpec], logical_ids: Mapping[str, str], endpoint: str
) -> Path:
    """Write `.shoal/sam-env.json`; returns its path."""
    path = home / FILE
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(environment_file(functions, logical_ids, endpoint))
    temporary.replace(path)
    return path
