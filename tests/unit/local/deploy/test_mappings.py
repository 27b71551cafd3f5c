"""Streams and event source mappings of a template: what is made of them, and what is refused, by name."""

from __future__ import annotations

import pytest

from shoal.local.deploy.stack import check_stack, deploy_stack
from shoal.local.intrinsics import BadTemplate
from shoal.local.streaming.mappings import EventSourceMapping
from shoal.local.template import load_stack
from tests.unit.local.deploy.conftest import ACCOUNT, REGION
from tests.unit.local.deploy.stacks import write_project

API_URL = "http://127.0.0.1:8080"
STREAM_ARN = f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/records"
KINESIS_ROLE = ", ".join(
    f"kinesis:{name}"
    for name in ("DescribeStream", "DescribeStreamSummary", "GetRecords", "GetShardIterator", "ListShards")
)
TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Resources:
  Records: {Type: AWS::Kinesis::Stream, Properties: {Name: records, STREAM_PROPERTIES}}
  Inbox: {Type: AWS::SQS::Queue, Properties: {QueueName: inbox, VisibilityTimeout: 60}}
  Lost: {Type: AWS::SQS::Queue, Properties: {QueueName: lost}}
  Answer:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: functions/ingest
      Handler: app.handler
      Runtime: python3.13
      Timeout: 30
      Policies:
        - Statement:
            - {Effect: Allow, Action: [ACTIONS], Resource: !GetAtt Records.Arn}
            - Effect: Allow
              Action: [sqs:ReceiveMessage, sqs:DeleteMessage, sqs:GetQueueAttributes]
              Resource: !GetAtt Inbox.Arn
            - {Effect: Allow, Action: sqs:SendMessage, Resource: !GetAtt Lost.Arn}
  OfStream:
    Type: AWS::Lambda::EventSourceMapping
    Properties: {FunctionName: !Ref Answer, EventSourceArn: !GetAtt Records.Arn, OF_STREAM}
  OfQueue:
    Type: AWS::Lambda::EventSourceMapping
    Properties: {FunctionName: !Ref Answer, EventSourceArn: !GetAtt Inbox.Arn, OF_QUEUE}
"""
USUAL = {
    "STREAM_PROPERTIES": "ShardCount: 2, RetentionPeriodHours: 48",
    "ACTIONS": KINESIS_ROLE,
    "OF_STREAM": "StartingPosition: LATEST",
    "OF_QUEUE": "BatchSize: 10",
}


def load(folder, **changes):
    text = TEMPLATE
    for name, value in (USUAL | changes).items():
        text = text.replace(name, value)
    return load_stack(write_project(folder, text), "shoal", {}, REGION, ACCOUNT)


def deploy(folder, endpoint, **changes):
    return deploy_stack(load(folder, **changes), endpoint=endpoint, api_url=API_URL)


def test_a_stream_is_made_and_made_again(tmp_path, endpoint, client):
    for _ in range(2):
        deployment = deploy(tmp_path, endpoint)
    assert deployment.resources["Records"] == "records"
    summary = client("kinesis").describe_stream_summary(StreamName="records")["StreamDescriptionSummary"]
    assert (summary["StreamARN"], summary["OpenShardCount"], summary["RetentionPeriodHours"]) == (STREAM_ARN, 2, 48)


def test_a_stream_on_demand_has_four_shards(tmp_path, endpoint, client):
    demand = {"STREAM_PROPERTIES": "StreamModeDetails: {StreamMode: ON_DEMAND}", "Name: records": "Name: demand"}
    deploy(tmp_path, endpoint, **demand)
    assert len(client("kinesis").list_shards(StreamName="demand")["Shards"]) == 4


def test_mappings_have_their_properties_or_lambdas_defaults(tmp_path, endpoint):
    of_stream, of_queue = deploy(tmp_path, endpoint).mappings
    assert of_stream == EventSourceMapping("shoal-OfStream", STREAM_ARN, "shoal-Answer", batch_size=100, start="LATEST")
    assert of_queue == EventSourceMapping(
        "shoal-OfQueue", f"arn:aws:sqs:{REGION}:{ACCOUNT}:inbox", "shoal-Answer", batch_size=10
    )
    stream = (
        "StartingPosition: AT_TIMESTAMP, StartingPositionTimestamp: 5, BatchSize: 7, "
        "MaximumBatchingWindowInSeconds: 3, ParallelizationFactor: 2, BisectBatchOnFunctionError: true, "
        "MaximumRetryAttempts: 0, MaximumRecordAgeInSeconds: 60, FunctionResponseTypes: [ReportBatchItemFailures], "
        "DestinationConfig: {OnFailure: {Destination: !GetAtt Lost.Arn}}"
    )
    queue = "BatchSize: 50, MaximumBatchingWindowInSeconds: 1, ScalingConfig: {MaximumConcurrency: 2}"
    of_stream, of_queue = deploy(tmp_path, endpoint, OF_STREAM=stream, OF_QUEUE=queue).mappings
    assert of_stream == EventSourceMapping(
        "shoal-OfStream", STREAM_ARN, "shoal-Answer", batch_size=7, window_s=3, parallelization=2,
        start="AT_TIMESTAMP", start_at=5, bisect=True, max_retries=0, max_age_s=60, partial=True,
        on_failure=f"arn:aws:sqs:{REGION}:{ACCOUNT}:lost",
    )  # fmt: skip
    assert (of_queue.batch_size, of_queue.window_s, of_queue.max_concurrency) == (50, 1, 2)
    assert len(deploy(tmp_path, endpoint, OF_QUEUE="Enabled: false").mappings) == 1


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"OF_STREAM": "BatchSize: 10"}, "StartingPosition is missing"),
        ({"OF_STREAM": "StartingPosition: LATEST, BatchSize: 10001"}, "BatchSize is 10001"),
        ({"OF_STREAM": "StartingPosition: LATEST, ParallelizationFactor: 11"}, "ParallelizationFactor is 1 to 10"),
        ({"OF_STREAM": "StartingPosition: LATEST, MaximumRetryAttempts: 10001"}, "MaximumRetryAttempts"),
        ({"OF_STREAM": "StartingPosition: LATEST, MaximumRecordAgeInSeconds: 59"}, "MaximumRecordAgeInSeconds"),
        ({"OF_STREAM": "StartingPosition: LATEST, MaximumBatchingWindowInSeconds: 301"}, "is 0 to 300"),
        ({"OF_STREAM": "StartingPosition: LATEST, ScalingConfig: {MaximumConcurrency: 2}"}, "is of queues"),
        (
            {"OF_STREAM": 'StartingPosition: LATEST, DestinationConfig: {OnFailure: {Destination: "arn:aws:s3:::b"}}'},
            "only a queue is honoured",
        ),
        ({"OF_QUEUE": "StartingPosition: LATEST"}, "StartingPosition is of streams"),
        ({"OF_QUEUE": "BisectBatchOnFunctionError: true"}, "BisectBatchOnFunctionError is of streams"),
        ({"OF_QUEUE": "BatchSize: 11"}, "at least 1 when BatchSize is above 10"),
        ({"OF_QUEUE": "ScalingConfig: {MaximumConcurrency: 1}"}, "is 2 to 1000"),
        ({"ACTIONS": "kinesis:GetRecords"}, "lacks kinesis:DescribeStream on"),
    ],
)
def test_what_aws_refuses_is_refused(tmp_path, endpoint, changes, problem):
    with pytest.raises(BadTemplate, match=problem):
        deploy(tmp_path, endpoint, **changes)


def test_a_queue_that_shows_messages_too_early_is_refused(tmp_path, endpoint):
    text = TEMPLATE.replace("VisibilityTimeout: 60", "VisibilityTimeout: 29")
    for name, value in USUAL.items():
        text = text.replace(name, value)
    stack = load_stack(write_project(tmp_path, text), "shoal", {}, REGION, ACCOUNT)
    with pytest.raises(BadTemplate, match="shows messages again before"):
        deploy_stack(stack, endpoint=endpoint, api_url=API_URL)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"OF_QUEUE": 'FilterCriteria: {Filters: [{Pattern: "{}"}]}'}, "FilterCriteria isn't honoured"),
        (
            {"OF_STREAM": "StartingPosition: LATEST, TumblingWindowInSeconds: 3"},
            "TumblingWindowInSeconds isn't honoured",
        ),
        ({"OF_QUEUE": "FunctionResponseTypes: [Everything]"}, "only ReportBatchItemFailures is honoured"),
        ({"STREAM_PROPERTIES": "RetentionPeriodHours: 24"}, "ShardCount: is missing"),
        (
            {"STREAM_PROPERTIES": "ShardCount: 1, StreamModeDetails: {StreamMode: ON_DEMAND}"},
            "can't go with a stream on demand",
        ),
        ({"STREAM_PROPERTIES": "ShardCount: 1, WarmThroughput: {}"}, "WarmThroughput isn't honoured"),
    ],
)
def test_what_isnt_honoured_is_named(tmp_path, changes, problem):
    with pytest.raises(BadTemplate) as refused:
        check_stack(load(tmp_path, **changes))
    assert problem in "; ".join(refused.value.problems)
