"""What a cloud still has after `kill -9`, and what it does about what it hadn't finished."""

import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from shoal.local import lifecycle
from shoal.local.doctor import diagnose
from tests.integration.local.conftest import wait_until

BUCKET, PLAIN, TABLE = "probe-uploads", "probe-plain", "probe-table"


def test_every_acknowledged_write_survives_kill_9(stopped_cloud):
    cloud = stopped_cloud
    cloud.up()
    s3, table = cloud.client("s3"), cloud.client("dynamodb")
    objects, items, failures, enough = {}, [], [], threading.Event()

    def write(worker):
        for n in range(10_000):
            key = f"in/w{worker} {n % 20}"
            body = b"%d-%d" % (worker, n)
            try:
                version = s3.put_object(Bucket=BUCKET, Key=key, Body=body, Metadata={"n": str(n)})["VersionId"]
                objects[(key, version)] = (body, str(n))
                item = {"pk": {"S": str(worker)}, "sk": {"S": str(n)}, "b": {"B": body}}
                table.put_item(TableName=TABLE, Item=item)
                items.append(item)
            except (BotoCoreError, ClientError) as error:
                failures.append(error)
                return
            if len(items) > 150:
                enough.set()

    with ThreadPoolExecutor(8) as pool:
        for worker in range(8):
            pool.submit(write, worker)
        assert enough.wait(60), failures
        cloud.kill()
    cloud.up()
    s3, table = cloud.client("s3"), cloud.client("dynamodb")
    for (key, version), (body, n) in objects.items():
        found = s3.get_object(Bucket=BUCKET, Key=key, VersionId=version)
        assert (found["Body"].read(), found["Metadata"]) == (body, {"n": n})
    for item in items:
        assert table.get_item(TableName=TABLE, Key={"pk": item["pk"], "sk": item["sk"]})["Item"] == item
    acknowledged = {version for _, version in objects}

    def told():
        events = [each["Records"][0]["s3"]["object"] for each in cloud.noted("events.jsonl")]
        return acknowledged <= {each["versionId"] for each in events}

    wait_until(told)


def test_the_rest_survives_too(stopped_cloud):
    cloud = stopped_cloud
    first = cloud.up()
    s3, sqs, ssm = cloud.client("s3"), cloud.client("sqs"), cloud.client("ssm")
    s3.create_bucket(Bucket="my-own-bucket")
    s3.put_object(Bucket="my-own-bucket", Key="k", Body=b"1", ContentType="text/plain")
    s3.put_object(Bucket="my-own-bucket", Key="gone", Body=b"1")
    s3.delete_object(Bucket="my-own-bucket", Key="gone")
    s3.put_object(Bucket=BUCKET, Key="marked", Body=b"1", Tagging="a=b")
    marker = s3.delete_object(Bucket=BUCKET, Key="marked")["VersionId"]
    url = sqs.get_queue_url(QueueName="probe-queue")["QueueUrl"]
    for body in ("one", "two"):
        sqs.send_message(
            QueueUrl=url, MessageBody=body, MessageAttributes={"a": {"DataType": "Number", "StringValue": "1"}}
        )
    ssm.put_parameter(Name="/mine", Value="secret", Type="SecureString")
    before = s3.head_object(Bucket="my-own-bucket", Key="k")
    cloud.kill()
    again = cloud.up()
    assert (again.token, again.aws_endpoint, again.api) == (first.token, first.aws_endpoint, first.api)
    assert len(first.token) == 40
    s3, sqs, ssm = cloud.client("s3"), cloud.client("sqs"), cloud.client("ssm")
    after = s3.head_object(Bucket="my-own-bucket", Key="k")
    assert {name: before[name] for name in ("ETag", "LastModified", "ContentType")} == {
        name: after[name] for name in ("ETag", "LastModified", "ContentType")
    }
    assert [each["Key"] for each in s3.list_objects_v2(Bucket="my-own-bucket")["Contents"]] == ["k"]
    versions = s3.list_object_versions(Bucket=BUCKET, Prefix="marked")
    assert [each["VersionId"] for each in versions["DeleteMarkers"]] == [marker]
    (version,) = versions["Versions"]
    tags = s3.get_object_tagging(Bucket=BUCKET, Key="marked", VersionId=version["VersionId"])["TagSet"]
    assert tags == [{"Key": "a", "Value": "b"}]
    messages = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"])["Messages"]
    assert sorted(each["Body"] for each in messages) == ["one", "two"]
    assert messages[0]["MessageAttributes"]["a"]["StringValue"] == "1"
    assert ssm.get_parameter(Name="/mine", WithDecryption=True)["Parameter"]["Value"] == "secret"


def test_a_running_execution_is_resumed_and_finished_ones_stay(stopped_cloud):
    cloud = stopped_cloud
    cloud.up()
    machines, machine = cloud.client("stepfunctions"), cloud.status.state_machine
    done = machines.start_execution(stateMachineArn=machine, name="done", input='{"n": 1}')["executionArn"]
    wait_until(lambda: machines.describe_execution(executionArn=done)["status"] == "SUCCEEDED")
    arn = machines.start_execution(stateMachineArn=machine, name="going", input='{"wait": true}')["executionArn"]
    wait_until(lambda: {"wait": True} in cloud.noted("steps.jsonl"))
    cloud.kill()
    (cloud.folder / "go").touch()
    cloud.up()
    machines = cloud.client("stepfunctions")
    described = machines.describe_execution(executionArn=done)
    assert (described["status"], described["output"]) == ("SUCCEEDED", '{"n":1}')
    with pytest.raises(ClientError, match="ExecutionAlreadyExists"):
        machines.start_execution(stateMachineArn=machine, name="done", input='{"n": 1}')
    wait_until(lambda: machines.describe_execution(executionArn=arn)["status"] == "SUCCEEDED")
    assert json.loads(machines.describe_execution(executionArn=arn)["output"]) == {"wait": True}


def test_duplicated_and_delayed_events_all_come(stopped_cloud, monkeypatch):
    monkeypatch.setenv("SHOAL_FAULTS", "duplicate-s3-events=0.5;delay-s3-events=0.3;seed=1")
    cloud = stopped_cloud
    cloud.up()
    s3 = cloud.client("s3")
    versions = [s3.put_object(Bucket=BUCKET, Key=f"in/{n}", Body=b"x")["VersionId"] for n in range(20)]

    def told():
        found = [each["Records"][0]["s3"]["object"]["versionId"] for each in cloud.noted("events.jsonl")]
        return found if set(found) == set(versions) and len(found) > len(versions) else None

    assert wait_until(told) != versions


def test_one_cloud_a_folder(stopped_cloud):
    cloud = stopped_cloud
    first = cloud.up()
    second = lifecycle.up(cloud.folder, detach=True)
    assert second.already_running
    assert second.pid == first.pid
    assert json.loads((cloud.folder / ".shoal" / "cloud.json").read_text())["pid"] == first.pid
    assert [each for each in diagnose(cloud.folder) if each.level == "error"] == []
    assert cloud.down()
    assert not cloud.down()
    assert lifecycle.status(cloud.folder) is None


def test_two_at_once_start_one_and_the_foreground_ends_with_sigterm(stopped_cloud):
    cloud = stopped_cloud
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: lifecycle.up(cloud.folder, detach=True, port=4700, api_port=8700), range(2))
    assert first.pid == second.pid
    cloud.down()
    script = (
        "import sys\nfrom shoal.local import lifecycle\n"
        "lifecycle.up(sys.argv[1], port=4700, on_ready=lambda status: print(status.pid, flush=True))\nprint('ended')"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(cloud.folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == f"{process.pid}\n"
    process.terminate()
    assert process.communicate(timeout=20)[0] == "ended\n"
    assert process.returncode == 0


def test_a_template_that_isnt_honoured_is_refused_by_name(stopped_cloud):
    template = stopped_cloud.folder / "template.yaml"
    template.write_text(template.read_text().replace("QueueName: probe-queue", "QueueName: probe-queue\n      Hope: 1"))
    with pytest.raises(lifecycle.CloudFailed, match="Hope"):
        stopped_cloud.up()
    assert lifecycle.status(stopped_cloud.folder) is None


def test_what_a_killed_cloud_left_is_forgotten_and_a_running_one_isnt(stopped_cloud):
    stopped_cloud.up()
    path = lifecycle.home_of(stopped_cloud.folder) / "cloud.json"
    lifecycle.forget_stopped(path.parent)
    assert path.exists()
    stopped_cloud.kill()
    assert path.exists()
    lifecycle.forget_stopped(path.parent)
    assert not path.exists()
