"""What `sam local` needs to run functions in containers against the embedded cloud: their environment, as a file.

`sam local invoke` can't resolve references to resources, so each function's variables are written out for its
`--env-vars`; the AWS endpoint is the laptop's loopback as a container sees it.

Source: https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/
serverless-sam-cli-using-invoke.html
"""

from __future__ import annotations

from shoal.local.deploy.deployment import Deployment

FILE = "sam-env.json"
CONTAINER_HOST = "host.docker.internal"


def container_environment(deployment: Deployment, endpoint: str) -> dict[str, dict[str, str]]:
    """The `--env-vars` document: variables by the functions' logical ids.

    Args:
        deployment: What was deployed.
        endpoint: URL of the AWS endpoint on the laptop.
    """
    inside = endpoint.replace("127.0.0.1", CONTAINER_HOST)
    variables = {
        function.name: {name: inside if value == endpoint else value for name, value in function.environment.items()}
        for function in deployment.functions
    }
    return {
        logical_id: variables[physical_id]
        for logical_id, physical_id in sorted(deployment.resources.items())
        if physical_id in variables
    }
