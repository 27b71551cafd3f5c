"""Every door of the HTTP API with clients that aren't ours: schemathesis, curl, SageMaker's client, a JWT's owner.

They have a cloud of their own: it believes an OIDC issuer, and whoever may do everything may move what other tests
count on.
"""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import jwt
import pytest
from botocore import UNSIGNED
from botocore.config import Config

from tests.e2e.cloud import LocalCloud, local_cloud
from tests.e2e.conftest import PENGUINS
from tests.support.oidc import LocalIssuer, local_issuer, rsa_key

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)
REQUESTS_PER_OPERATION = 4
# Routes that start trainings and searches.
STARTING = r"/(runs|tunings|resume)$"
ROWS = list(csv.DictReader(io.StringIO(PENGUINS.decode())))[:5]
ROW = {name: value for name, value in ROWS[0].items() if name != "species"}


@pytest.fixture(scope="module")
def issuer() -> Iterator[LocalIssuer]:
    with local_issuer() as running:
        yield running


@pytest.fixture(scope="module")
def own_cloud(tmp_path_factory: pytest.TempPathFactory, issuer: LocalIssuer) -> Iterator[LocalCloud]:
    parameters = f"OidcIssuer={issuer.url};OidcAudience=shoal-api;DefaultModel=penguins"
    with local_cloud(tmp_path_factory.mktemp("doors"), parameters=parameters) as running:
        running.shoal("push", "examples/penguins/penguins.csv", "--target", "species", "--json")
        yield running


def schemathesis(cloud: LocalCloud, folder: Path, token: str, *options: str) -> str:
    """What it printed. It takes names that exist from what it was answered."""
    command = [
        *(Path(sys.executable).with_name("schemathesis"), "run", cloud.status["api"] + "/openapi.json"),
        *("--header", f"Authorization: Bearer {token}", *options),
        *("--checks", ",".join(CHECKS), "--phases", "examples,coverage,fuzzing"),
        *("--max-examples", str(REQUESTS_PER_OPERATION), "--generation-deterministic", "--continue-on-failure"),
        *("--warnings", "off", "--no-color"),
    ]
    # In an empty folder: it would read a schemathesis.toml and keep what it found.
    answer = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=400, check=False)
    assert answer.returncode == 0, answer.stdout[-8000:]
    return answer.stdout


def test_every_route_answers_as_the_document_says(own_cloud: LocalCloud, tmp_path: Path) -> None:
    paths = own_cloud.get("/openapi.json")["paths"]
    methods = {path: sum(method != "parameters" for method in item) for path, item in paths.items()}
    starting = sum(count for path, count in methods.items() if re.search(STARTING, path))
    told = schemathesis(own_cloud, tmp_path, own_cloud.status["token"], "--exclude-path-regex", STARTING)
    # It leaves the document's own route out, which it has fetched.
    assert f"Tested: {sum(methods.values()) - starting - 1}" in told
    # Dozens of trainings and searches would keep the cores for minutes, so whoever asks for them may only read.
    made = json.loads(own_cloud.shoal("token", "create", "reader", "--scope", "read", "--json").stdout)
    told = schemathesis(own_cloud, tmp_path, made["token"], "--include-path-regex", STARTING)
    assert starting and f"Tested: {starting}" in told


def test_a_jwt_opens_what_its_scopes_say(own_cloud: LocalCloud, issuer: LocalIssuer) -> None:
    for key in ("first", "curve"):
        token = issuer.token(key, scope="openid shoal/predict:penguins")
        assert own_cloud.http("GET", "/v2/models/penguins/ready", token=token).status == 200
        refused = own_cloud.http("GET", "/models", token=token)
        assert (refused.status, refused.content_type) == (403, "application/problem+json")
        assert "'oidc:user-1' lacks the scope 'read'" in refused.body["detail"]
    groups = issuer.token(scope=None, **{"cognito:groups": ["shoal/admin"]})
    assert own_cloud.http("GET", "/audit", token=groups).status == 200
    assert own_cloud.http("GET", "/audit").status == 200  # the stack's own token is believed as before


def test_forged_and_foreign_jwts_are_nobody(own_cloud: LocalCloud, issuer: LocalIssuer) -> None:
    wrong = {
        "another key": jwt.encode(issuer.claims(), rsa_key(), algorithm="RS256", headers={"kid": "first"}),
        "expired": issuer.token(exp=int(time.time()) - 3600),
        "another audience": issuer.token(aud="somebody-else"),
        "another issuer": issuer.token(iss="https://issuer.example"),
        "no such key": jwt.encode(issuer.claims(), rsa_key(), algorithm="RS256", headers={"kid": "unknown"}),
        "a MAC": jwt.encode(issuer.claims(), "x" * 32, algorithm="HS256", headers={"kid": "first"}),
        "no signature": jwt.encode(issuer.claims(), None, algorithm="none", headers={"kid": "first"}),
    }
    answers = {name: own_cloud.http("GET", "/models", token=token).status for name, token in wrong.items()}
    assert answers == dict.fromkeys(wrong, 403)


def curl(cloud: LocalCloud, path: str, *options: str) -> Any:
    token = cloud.status["token"]
    command = ["curl", "-sS", "--fail-with-body", "-H", f"Authorization: Bearer {token}", *options]
    answer = subprocess.run([*command, cloud.status["api"] + path], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return json.loads(answer.stdout)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl isn't installed")
def test_curl_in_every_form(own_cloud: LocalCloud, tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("\n".join([",".join(ROW), ",".join(ROW.values())]) + "\n")
    path = "/models/penguins/predict?top=1"
    answers = [
        curl(own_cloud, path, "--json", json.dumps({"instances": [ROW]})),
        curl(own_cloud, path, "--json", json.dumps(ROW)),
        curl(own_cloud, path, *(part for name, value in ROW.items() for part in ("-F", f"{name}={value}"))),
        curl(
            own_cloud, path, *(part for name, value in ROW.items() for part in ("--data-urlencode", f"{name}={value}"))
        ),
        curl(own_cloud, path, "-F", f"rows=@{rows};type=text/csv"),
        curl(own_cloud, path, "-H", "Content-Type: text/csv", "--data-binary", f"@{rows}"),
        curl(own_cloud, "/invocations?top=1", "-H", "Content-Type: text/csv", "--data-binary", f"@{rows}"),
    ]
    assert all(answer == answers[0] for answer in answers)
    (prediction,) = answers[0]["predictions"]
    assert prediction["label"] == ROWS[0]["species"]
    assert len(prediction["probabilities"]) == 1
    assert curl(own_cloud, "/ping") == {"status": "ok"}
    assert curl(own_cloud, "/v2/models/penguins")["platform"]


def test_sagemakers_own_client(own_cloud: LocalCloud) -> None:
    client = boto3.client(
        "sagemaker-runtime",
        endpoint_url=own_cloud.status["api"],
        region_name="us-east-1",
        config=Config(signature_version=UNSIGNED),
    )

    def add_token(request: Any, **_: Any) -> None:
        request.headers["Authorization"] = f"Bearer {own_cloud.status['token']}"

    client.meta.events.register("before-send.sagemaker-runtime.InvokeEndpoint", add_token)
    body = json.dumps({"instances": [{name: row[name] for name in ROW} for row in ROWS]})
    answer = client.invoke_endpoint(
        EndpointName="penguins",
        Body=body,
        ContentType="application/json",
        Accept="text/csv",
        CustomAttributes="trace=7",
    )
    assert answer["CustomAttributes"] == "trace=7"
    lines = answer["Body"].read().decode().splitlines()
    assert [line.partition(",")[0] for line in lines] == [row["species"] for row in ROWS]
    with pytest.raises(client.exceptions.ClientError) as caught:
        client.invoke_endpoint(EndpointName="nobody", Body=body, ContentType="application/json")
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 404


def test_a_rotated_token_and_a_plan(own_cloud: LocalCloud) -> None:
    def shoal(*arguments: str) -> dict[str, Any]:
        return dict(json.loads(own_cloud.shoal(*arguments, "--json").stdout))

    shoal("plan", "set", "trial", "--per-month", "2")
    made = shoal("token", "create", "partner", "--scope", "predict:penguins", "--plan", "trial")
    again = shoal("token", "rotate", made["id"], "--grace-hours", "1")
    ready = "/v2/models/penguins/ready"
    answers = [
        own_cloud.http("GET", ready, token=token).status for token in (made["token"], again["token"], made["token"])
    ]
    assert answers == [200, 200, 429]  # one token, whichever of its secrets was sent
    wrong = own_cloud.shoal("token", "rotate", "nobody", "--json", check=False)
    assert (wrong.returncode, json.loads(wrong.stdout)["error"]["type"]) == (2, "NotFound")
