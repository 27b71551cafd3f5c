import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3
import pytest

from shoal import BadRequest, ConnectionFailed, NotAuthorised, NotFound, ServiceFailed
from shoal.connection import Connection, connect_local, connect_stack


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


Answer = tuple[int, dict[str, str], bytes]


@contextmanager
def answering(answers: Callable[[int], Answer]) -> Iterator[tuple[Connection, list[str]]]:
    """A connection to a server that answers its first request with `answers(1)` and so on; and what it was asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            asked.append(self.path)
            status, headers, body = answers(len(asked))
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield replace(connect_local(), api=f"http://127.0.0.1:{server.server_port}"), asked
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def stumbling(cloud):
    """A server that answers twice as when a function dies, then well."""
    died, well = (500, {}, b'{"message": "Internal Server Error"}'), (200, {}, b'{"it": "is"}')
    with answering(lambda number: died if number < 3 else well) as found:
        yield found


def test_a_prediction_is_asked_for_again_when_a_function_dies(stumbling):
    connection, asked = stumbling
    assert connection.request("POST", "/models/birds/predict", body=b"{}") == {"it": "is"}
    assert asked == ["/models/birds/predict"] * 3


def test_what_changes_something_is_asked_for_once(stumbling):
    connection, asked = stumbling
    with pytest.raises(ServiceFailed):
        connection.request("POST", "/models/birds/rollback", body=b"{}")
    assert asked == ["/models/birds/rollback"]


def test_a_short_wait_is_waited(cloud):
    limited, well = (429, {"Retry-After": "1"}, b"{}"), (200, {}, b'{"it": "is"}')
    with answering(lambda number: limited if number == 1 else well) as (connection, asked):
        assert connection.request("POST", "/models/birds/predict", body=b"{}") == {"it": "is"}
        assert len(asked) == 2


def test_a_limit_that_is_used_up_for_long_is_told_soon(cloud):
    told = {"detail": "Token 'a' has made its 5 requests per month.", "fix": "Send fewer, or wait 2,000,000 seconds."}
    limited = (429, {"Retry-After": "2000000"}, json.dumps(told).encode())
    with answering(lambda number: limited) as (connection, asked):
        with pytest.raises(BadRequest, match="has made its 5 requests per month"):
            connection.request("POST", "/models/birds/predict", body=b"{}")
        assert len(asked) == 4


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
