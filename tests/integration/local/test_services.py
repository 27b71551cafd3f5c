"""The services of a running cloud, through boto3."""

import http.client
import json
import socket
import uuid
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import unquote_plus, urlsplit

import boto3
import pytest
from boto3.s3.transfer import TransferConfig
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.integration.local.conftest import wait_until

BUCKET, PLAIN, TABLE = "probe-uploads", "probe-plain", "probe-table"
PART = b"p" * (5 << 20)


def code_of(call, **arguments):
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    return caught.value.response["Error"]["Code"]


def events_of(cloud, key):
    found = [event["Records"][0] for event in cloud.noted("events.jsonl")]
    return [each for each in found if unquote_plus(each["s3"]["object"]["key"]) == key]


def put(s3, key):
    return s3.put_object(Bucket=BUCKET, Key=key, Body=b"body")["VersionId"]


def multipart(s3, key):
    upload = {"Bucket": BUCKET, "Key": key}
    upload["UploadId"] = s3.create_multipart_upload(**upload)["UploadId"]
    parts = [
        {"PartNumber": number, "ETag": s3.upload_part(**upload, PartNumber=number, Body=body)["ETag"]}
        for number, body in ((1, PART), (2, b"end"))
    ]
    return s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})["VersionId"]


def copy(s3, key):
    s3.put_object(Bucket=PLAIN, Key="source", Body=b"body")
    return s3.copy_object(Bucket=BUCKET, Key=key, CopySource={"Bucket": PLAIN, "Key": "source"})["VersionId"]


def post(s3, key):
    form = s3.generate_presigned_post(BUCKET, key)
    boundary = uuid.uuid4().hex
    parts = [(f'name="{name}"', value) for name, value in form["fields"].items()]
    parts.append(('name="file"; filename="f"', "body"))
    body = "".join(
        f"--{boundary}\r\nContent-Disposition: form-data; {name}\r\n\r\n{value}\r\n" for name, value in parts
    )
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    connection = http.client.HTTPConnection(urlsplit(form["url"]).netloc)
    connection.request("POST", urlsplit(form["url"]).path, f"{body}--{boundary}--\r\n".encode(), headers)
    assert connection.getresponse().status == 204
    connection.close()
    return s3.head_object(Bucket=BUCKET, Key=key)["VersionId"]


@pytest.mark.parametrize(
    ("write", "name"),
    [(put, "Put"), (multipart, "CompleteMultipartUpload"), (copy, "Copy"), (post, "Post")],
)
@pytest.mark.parametrize("stem", ["a b", "a+b", "ünï✓", "long"])
def test_each_finished_write_is_one_event(cloud, write, name, stem):
    s3 = cloud.client("s3")
    key = f"in/{name}/{stem}" if stem != "long" else f"in/{name}/".ljust(1000, "k")
    version = write(s3, key)
    last = f"in/last-{name}-{stem}"
    put(s3, last)
    wait_until(lambda: events_of(cloud, key) and events_of(cloud, last))
    (event,) = events_of(cloud, key)
    assert event["eventName"] == f"ObjectCreated:{name}"
    assert event["s3"]["object"]["versionId"] == version
    head = s3.head_object(Bucket=BUCKET, Key=key)
    assert event["s3"]["object"]["size"] == head["ContentLength"]
    assert event["s3"]["object"]["eTag"] == head["ETag"].strip('"')


def test_sequencers_order_the_writes_of_a_key_and_other_prefixes_fire_nothing(cloud):
    s3 = cloud.client("s3")
    put(s3, "out/ignored")
    versions = [put(s3, "in/again") for _ in range(5)]
    wait_until(lambda: len(events_of(cloud, "in/again")) == 5)
    records = sorted(
        (each["s3"]["object"] for each in events_of(cloud, "in/again")), key=lambda each: each["sequencer"]
    )
    assert [each["versionId"] for each in records] == versions
    assert events_of(cloud, "out/ignored") == []


def test_deleting_a_version_for_good_leaves_the_others(cloud):
    s3 = cloud.client("s3")
    versions = [put(s3, "out/versions") for _ in range(3)]
    s3.delete_object(Bucket=BUCKET, Key="out/versions", VersionId=versions[2])
    deleted = s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": "out/versions", "VersionId": versions[0]}]})
    assert [each["VersionId"] for each in deleted["Deleted"]] == [versions[0]]
    assert s3.head_object(Bucket=BUCKET, Key="out/versions")["VersionId"] == versions[1]


def test_a_form_encoded_body_isnt_lost_and_ranges_are_exact(cloud):
    s3 = cloud.client("s3")
    s3.put_object(Bucket=PLAIN, Key="form", Body=b"a=1&b=2", ContentType="application/x-www-form-urlencoded")
    found = s3.get_object(Bucket=PLAIN, Key="form")
    assert (found["Body"].read(), found["ContentType"]) == (b"a=1&b=2", "application/x-www-form-urlencoded")
    part = s3.get_object(Bucket=PLAIN, Key="form", Range="bytes=2-4")
    assert (part["Body"].read(), part["ContentRange"]) == (b"1&b", "bytes 2-4/7")
    assert code_of(s3.get_object, Bucket=PLAIN, Key="form", Range="bytes=7-") == "InvalidRange"
    assert code_of(s3.get_object, Bucket=PLAIN, Key="nothing") == "NoSuchKey"


def test_what_a_client_uploads_in_parts_reads_back_with_its_checksum_verified(cloud, tmp_path):
    s3 = cloud.client("s3")
    file = tmp_path / "big"
    file.write_bytes(PART + b"-" + PART)
    in_parts = TransferConfig(multipart_threshold=len(PART), multipart_chunksize=len(PART))
    s3.upload_file(str(file), PLAIN, "big", Config=in_parts)
    found = s3.get_object(Bucket=PLAIN, Key="big", ChecksumMode="ENABLED")
    assert found["Body"].read() == file.read_bytes()
    head = s3.head_object(Bucket=PLAIN, Key="big", ChecksumMode="ENABLED")
    assert found["ChecksumType"] == head["ChecksumType"] == "COMPOSITE"
    assert found["ChecksumCRC32"] == head["ChecksumCRC32"]
    assert head["ChecksumCRC32"].endswith("-3")


def test_one_of_sixteen_conditional_writers_wins(cloud):
    s3 = cloud.client("s3")

    def attempt(body, **condition):
        try:
            s3.put_object(Bucket=PLAIN, Key="contended", Body=body, **condition)
        except ClientError as error:
            return error.response["Error"]["Code"]
        return body

    with ThreadPoolExecutor(16) as pool:
        first = list(pool.map(lambda n: attempt(b"%d" % n, IfNoneMatch="*"), range(16)))
        etag = s3.head_object(Bucket=PLAIN, Key="contended")["ETag"]
        second = list(pool.map(lambda n: attempt(b"%d" % (n + 100), IfMatch=etag), range(16)))
    winners = [[each for each in outcome if each != "PreconditionFailed"] for outcome in (first, second)]
    assert [len(each) for each in winners] == [1, 1]
    winner = winners[1][0]
    assert s3.get_object(Bucket=PLAIN, Key="contended")["Body"].read() == winner
    assert code_of(s3.put_object, Bucket=PLAIN, Key="no such", Body=b"", IfMatch=etag) == "NoSuchKey"


def test_adding_from_many_threads_loses_nothing(cloud):
    table = cloud.client("dynamodb")

    def add(_):
        table.update_item(
            TableName=TABLE,
            Key={"pk": {"S": "counter"}, "sk": {"S": "0"}},
            UpdateExpression="ADD n :one",
            ExpressionAttributeValues={":one": {"N": "1"}},
        )

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(add, range(200)))
    item = table.get_item(TableName=TABLE, Key={"pk": {"S": "counter"}, "sk": {"S": "0"}})["Item"]
    assert item["n"] == {"N": "200"}


def test_limits_fail_as_on_aws(cloud):
    big = "x" * (400 * 1024)
    item = {"pk": {"S": "p"}, "sk": {"S": "s"}, "big": {"S": big}}
    assert code_of(cloud.client("dynamodb").put_item, TableName=TABLE, Item=item) == "ValidationException"
    sqs = cloud.client("sqs")
    url = sqs.get_queue_url(QueueName="probe-queue")["QueueUrl"]
    assert code_of(sqs.send_message, QueueUrl=url, MessageBody=big) == "InvalidParameterValue"
    entry = {"Source": "s", "DetailType": "d", "Detail": json.dumps({"big": big})}
    assert code_of(cloud.client("events").put_events, Entries=[entry]) == "ValidationException"
    machines = cloud.client("stepfunctions")
    started = {"stateMachineArn": cloud.status.state_machine, "input": json.dumps({"big": big})}
    assert code_of(machines.start_execution, **started) == "ValidationException"


def run_machine(cloud, name, value):
    machines = cloud.client("stepfunctions")
    arn = machines.start_execution(stateMachineArn=cloud.status.state_machine, name=name, input=json.dumps(value))[
        "executionArn"
    ]

    def ended():
        found = machines.describe_execution(executionArn=arn)
        return found if found["status"] != "RUNNING" else None

    return wait_until(ended)


def test_a_task_whose_result_is_too_large_fails(cloud):
    assert run_machine(cloud, "large", {"size": 300_000})["error"] == "States.DataLimitExceeded"
    assert run_machine(cloud, "small", {"n": 1})["output"] == '{"n":1}'


def test_an_execution_name_is_used_once(cloud):
    machines, arn = cloud.client("stepfunctions"), cloud.status.state_machine
    running = {"stateMachineArn": arn, "name": "named", "input": '{"wait": true}'}
    first = machines.start_execution(**running)
    assert machines.start_execution(**running)["executionArn"] == first["executionArn"]
    assert code_of(machines.start_execution, **running | {"input": "{}"}) == "ExecutionAlreadyExists"
    (cloud.folder / "go").touch()
    wait_until(lambda: machines.describe_execution(executionArn=first["executionArn"])["status"] == "SUCCEEDED")
    assert code_of(machines.start_execution, **running) == "ExecutionAlreadyExists"
    listed = machines.list_executions(stateMachineArn=arn, statusFilter="SUCCEEDED")["executions"]
    assert "named" in [each["name"] for each in listed]


def test_lambdas_own_api(cloud):
    functions = cloud.client("lambda")
    answer = functions.invoke(FunctionName="probe-step", Payload=b'{"n": 1}', LogType="Tail")
    assert json.loads(answer["Payload"].read()) == {"n": 1}
    assert answer["LogResult"]
    arn = functions.get_function(FunctionName="probe-step")["Configuration"]["FunctionArn"]
    failed = functions.invoke(FunctionName=arn.replace("step", "broken"), Payload=b"{}")
    assert failed["FunctionError"] == "Unhandled"
    assert json.loads(failed["Payload"].read())["errorType"] == "ValueError"
    assert "probe-step" in [each["FunctionName"] for each in functions.list_functions()["Functions"]]
    assert code_of(functions.invoke, FunctionName="nobody") == "ResourceNotFoundException"


def test_a_failed_event_ends_in_the_queue_with_awss_record(cloud):
    cloud.client("lambda").invoke(FunctionName="probe-broken", InvocationType="Event", Payload=b'{"n": 7}')
    sqs = cloud.client("sqs")
    url = sqs.get_queue_url(QueueName="probe-queue")["QueueUrl"]
    messages = wait_until(lambda: sqs.receive_message(QueueUrl=url, WaitTimeSeconds=1).get("Messages"))
    record = json.loads(messages[0]["Body"])
    assert record["requestPayload"] == {"n": 7}
    assert record["requestContext"]["condition"] == "RetriesExhausted"
    sqs.delete_message(QueueUrl=url, ReceiptHandle=messages[0]["ReceiptHandle"])


def test_a_function_may_do_only_what_its_role_allows(cloud):
    cloud.client("s3").put_object(Bucket=PLAIN, Key="readable", Body=b"read me")
    answer = cloud.client("lambda").invoke(
        FunctionName="probe-curious", Payload=json.dumps({"Bucket": PLAIN, "Key": "readable"})
    )
    assert json.loads(answer["Payload"].read()) == {"code": "AccessDenied", "read": "read me"}


@pytest.mark.parametrize("service", ["s3", "dynamodb"])
def test_who_gives_no_key_is_refused_as_on_aws(service, cloud):
    anonymous = boto3.client(
        service,
        endpoint_url=cloud.status.aws_endpoint,
        region_name=cloud.status.region,
        config=Config(signature_version=UNSIGNED),
    )
    with pytest.raises(ClientError) as refused:
        anonymous.list_buckets() if service == "s3" else anonymous.list_tables()
    code = refused.value.response["Error"]["Code"]
    assert code == {"s3": "AccessDenied", "dynamodb": "MissingAuthenticationTokenException"}[service]


def test_function_logs_are_in_cloudwatch_and_on_disk(cloud):
    cloud.client("lambda").invoke(FunctionName="probe-step", Payload=b"{}")
    logs = cloud.client("logs")
    group = "/aws/lambda/probe-step"
    wait_until(
        lambda: any(
            each["message"].startswith("REPORT")
            for each in logs.filter_log_events(logGroupName=group).get("events", [])
        )
    )
    assert "REPORT" in (cloud.folder / ".shoal" / "logs" / "probe-step.log").read_text()


def test_trace_segments_reach_xray(cloud):
    configuration = cloud.client("lambda").get_function_configuration(FunctionName="probe-step")
    host, port = configuration["Environment"]["Variables"]["AWS_XRAY_DAEMON_ADDRESS"].split(":")
    trace = "1-5759e988-bd862e3fe1be46a994272793"
    segment = {"name": "n", "id": "70de5b6f19ff9a0a", "trace_id": trace, "start_time": 1.0, "end_time": 2.0}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b'{"format": "json", "version": 1}\n' + json.dumps(segment).encode(), (host, int(port)))
    xray = cloud.client("xray")
    wait_until(lambda: xray.batch_get_traces(TraceIds=[trace])["Traces"])


def test_edited_code_is_taken_into_use(cloud):
    code = cloud.folder / "functions" / "probe" / "app.py"
    code.write_text(code.read_text() + "\n\ndef step(event, context):\n    return 'edited'\n")
    functions = cloud.client("lambda")
    wait_until(lambda: functions.invoke(FunctionName="probe-step")["Payload"].read() == b'"edited"')
