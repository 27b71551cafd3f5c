import json

import boto3
import pytest

from shoal import BadRequest, ConnectionFailed, NotAuthorised, NotFound
from shoal.connection import connect_local, connect_stack


def test_the_cloud_is_found_from_a_folder_below(cloud, monkeypatch, tmp_path):
    below = tmp_path / "project" / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert connect_local().request("GET", "/healthz")["status"] == "ok"


def test_shoal_home_names_the_state_folder(cloud, monkeypatch, tmp_path):
    monkeypatch.setenv("SHOAL_HOME", str(tmp_path / "project" / ".shoal"))
    monkeypatch.chdir("/")
    assert connect_local().bucket == cloud["bucket"]


def test_no_cloud_says_how_to_start_one(tmp_path, monkeypatch):
    monkeypatch.setenv("SHOAL_HOME", str(tmp_path))
    with pytest.raises(ConnectionFailed, match="shoal up -d"):
        connect_local()


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"api": 1}'])
def test_a_broken_cloud_json_is_named(tmp_path, monkeypatch, text):
    (tmp_path / "cloud.json").write_text(text)
    monkeypatch.setenv("SHOAL_HOME", str(tmp_path))
    with pytest.raises(ConnectionFailed, match=r"cloud\.json can't be read"):
        connect_local()


def test_a_cloud_that_is_gone_doesnt_answer(cloud, api):
    connection = connect_local()
    api.close()
    with pytest.raises(ConnectionFailed, match="doesn't answer"):
        connection.request("GET", "/runs")


def test_a_wrong_token_is_refused(cloud, tmp_path):
    path = tmp_path / "project" / ".shoal" / "cloud.json"
    path.write_text(json.dumps({**cloud, "token": "wrong"}))
    with pytest.raises(NotAuthorised, match="403"):
        connect_local().request("GET", "/runs")


def test_a_proxy_is_for_the_internet_only(cloud, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    connection = connect_local()
    assert connection.request("GET", "/runs") == {"runs": []}
    assert connection.s3.list_objects_v2(Bucket=cloud["bucket"])["KeyCount"] == 0


@pytest.fixture
def account(aws_endpoint, monkeypatch):
    """boto3's ordinary session leads to the moto server."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "key")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws_endpoint)
    return boto3.session.Session()


def deploy(account, name, outputs):
    template = {
        "Resources": {"Topic": {"Type": "AWS::SNS::Topic"}},
        "Outputs": {key: {"Value": value} for key, value in outputs.items()},
    }
    account.client("cloudformation").create_stack(StackName=name, TemplateBody=json.dumps(template))


def test_a_stack_is_found_by_its_outputs(account, api):
    secret = account.client("secretsmanager").create_secret(Name=api.bucket, SecretString="a-token")["ARN"]
    deploy(account, api.bucket, {"Bucket": api.bucket, "ApiUrl": f"{api.url}/", "TokenSecretArn": secret})
    connection = connect_stack(api.bucket)
    assert (connection.api, connection.bucket, connection.aws_endpoint) == (api.url, api.bucket, None)
    assert connection.request("GET", "/runs") == {"runs": []}


def test_an_unknown_stack_is_not_found(account):
    with pytest.raises(NotFound, match="no-such-stack"):
        connect_stack("no-such-stack")


def test_a_stack_of_something_else_is_told_apart(account):
    deploy(account, "other", {"Bucket": "b"})
    with pytest.raises(BadRequest, match="lacks the outputs ApiUrl, TokenSecretArn"):
        connect_stack("other")
