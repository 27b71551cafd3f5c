"""IAM: which requests need which permissions, and who has them."""

from __future__ import annotations

import json

import pytest

from shoal.local.access import CONTEXT_KEYS
from shoal.local.permissions import (
    Authorizer,
    Inventory,
    Request,
    RolePolicies,
    credentials_for,
    evaluate,
    identify,
    policy_problems,
)

ACCOUNT, REGION = "123456789012", "us-east-1"
SECRET = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:token-AbCdEf"
INVENTORY = Inventory(ACCOUNT, REGION, {"catalog": "pk"}, {"token": SECRET})
CATALOG = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/catalog"
ROLE = "arn:aws:iam::123456789012:role/worker"
STATES_ROLE = "arn:aws:iam::123456789012:role/machine"


def request(
    service, method="POST", path="/", query="", target="", body=b"", key="AKIA", headers=None, host="127.0.0.1"
):
    signed = (
        f"AWS4-HMAC-SHA256 Credential={key}/20261121/{REGION}/{service}/aws4_request, SignedHeaders=host, Signature=x"
    )
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {"authorization": signed, **({"x-amz-target": target} if target else {}), **(headers or {})}
    return Request(method, host, path, query, named, raw)


def arn(service, resource):
    return f"arn:aws:{service}:{REGION}:{ACCOUNT}:{resource}"


def needed(seen):
    return [(access.action, access.resource) for access in identify(seen, INVENTORY)]


@pytest.mark.parametrize(
    ("method", "path", "query", "action", "resource"),
    [
        ("GET", "/b/a key/ü+%41.txt", "", "GetObject", "b/a key/ü+%41.txt"),
        ("HEAD", "/b/k", "", "GetObject", "b/k"),
        ("GET", "/b/k", "versionId=1", "GetObjectVersion", "b/k"),
        ("HEAD", "/b/k", "versionId=1", "GetObjectVersion", "b/k"),
        ("GET", "/b/k", "tagging", "GetObjectTagging", "b/k"),
        ("GET", "/b/k", "acl", "GetObjectAcl", "b/k"),
        ("GET", "/b/k", "uploadId=1", "ListMultipartUploadParts", "b/k"),
        ("PUT", "/b/k", "", "PutObject", "b/k"),
        ("PUT", "/b/k", "partNumber=1&uploadId=1", "PutObject", "b/k"),
        ("PUT", "/b/k", "tagging", "PutObjectTagging", "b/k"),
        ("POST", "/b/k", "uploads", "PutObject", "b/k"),
        ("POST", "/b/k", "uploadId=1", "PutObject", "b/k"),
        ("DELETE", "/b/k", "", "DeleteObject", "b/k"),
        ("DELETE", "/b/k", "versionId=1", "DeleteObjectVersion", "b/k"),
        ("DELETE", "/b/k", "uploadId=1", "AbortMultipartUpload", "b/k"),
        ("HEAD", "/b", "", "ListBucket", "b"),
        ("GET", "/b", "list-type=2&prefix=x", "ListBucket", "b"),
        ("GET", "/b/", "", "ListBucket", "b"),
        ("GET", "/b", "versions", "ListBucketVersions", "b"),
        ("GET", "/b", "uploads", "ListBucketMultipartUploads", "b"),
        ("GET", "/b", "location", "GetBucketLocation", "b"),
        ("GET", "/b", "lifecycle", "GetLifecycleConfiguration", "b"),
        ("PUT", "/b", "policy", "PutBucketPolicy", "b"),
        ("PUT", "/b", "", "CreateBucket", "b"),
        ("DELETE", "/b", "policy", "DeleteBucketPolicy", "b"),
        ("DELETE", "/b", "", "DeleteBucket", "b"),
    ],
)
def test_s3_actions(method, path, query, action, resource):
    assert needed(request("s3", method, path, query)) == [(f"s3:{action}", f"arn:aws:s3:::{resource}")]


def test_s3_requests_that_need_several_permissions():
    copy = request("s3", "PUT", "/b/k", headers={"x-amz-copy-source": "/a/from%20here"})
    assert needed(copy) == [("s3:PutObject", "arn:aws:s3:::b/k"), ("s3:GetObject", "arn:aws:s3:::a/from here")]
    old = request("s3", "PUT", "/b/k", headers={"X-Amz-Copy-Source": "a/k?versionId=3"})
    assert ("s3:GetObjectVersion", "arn:aws:s3:::a/k") in needed(old)
    body = b"<Delete><Object><Key>a&amp;b</Key></Object><Object><Key>c</Key><VersionId>1</VersionId></Object></Delete>"
    assert needed(request("s3", "POST", "/b", "delete", body=body)) == [
        ("s3:DeleteObject", "arn:aws:s3:::b/a&b"),
        ("s3:DeleteObjectVersion", "arn:aws:s3:::b/c"),
    ]
    tagged = request("s3", "PUT", "/b/k", headers={"x-amz-tagging": "a=b"})
    assert ("s3:PutObjectTagging", "arn:aws:s3:::b/k") in needed(tagged)


def test_s3_other_forms():
    assert needed(request("s3", "GET", "/k", host="bkt.s3.us-east-1.amazonaws.com")) == [
        ("s3:GetObject", "arn:aws:s3:::bkt/k")
    ]
    assert needed(request("s3", "GET", "/k", host="bkt.localhost:4566")) == [("s3:GetObject", "arn:aws:s3:::bkt/k")]
    assert needed(request("s3", "GET", "/")) == [("s3:ListAllMyBuckets", "*")]
    assert identify(request("s3", "POST", "/b"), INVENTORY) == []
    presigned = Request("GET", "h", "/b/k", f"X-Amz-Credential=AKIA%2F20261121%2F{REGION}%2Fs3%2Faws4_request")
    assert presigned.access_key == "AKIA"
    assert needed(presigned) == [("s3:GetObject", "arn:aws:s3:::b/k")]


@pytest.mark.parametrize(
    ("service", "target", "body", "action", "resource"),
    [
        ("dynamodb", "DynamoDB_20120810.GetItem", {"TableName": "catalog", "Key": {}}, "dynamodb:GetItem", CATALOG),
        ("dynamodb", "DynamoDB_20120810.GetItem", {"TableName": CATALOG}, "dynamodb:GetItem", CATALOG),
        ("dynamodb", "D.Query", {"TableName": "catalog", "IndexName": "i"}, "dynamodb:Query", f"{CATALOG}/index/i"),
        ("dynamodb", "D.BatchGetItem", {"RequestItems": {"catalog": {"Keys": []}}}, "dynamodb:BatchGetItem", CATALOG),
        ("dynamodb", "D.ListTables", {}, "dynamodb:ListTables", "*"),
        ("states", "AWSStepFunctions.StartExecution", {"stateMachineArn": "arn:m"}, "states:StartExecution", "arn:m"),
        ("states", "S.DescribeExecution", {"executionArn": "arn:e"}, "states:DescribeExecution", "arn:e"),
        ("states", "S.SendTaskSuccess", {"taskToken": "t"}, "states:SendTaskSuccess", "*"),
        ("sqs", "AmazonSQS.SendMessageBatch", {"QueueUrl": "http://h/1/q"}, "sqs:SendMessage", arn("sqs", "q")),
        ("sqs", "AmazonSQS.ListQueues", {}, "sqs:ListQueues", "*"),
        ("events", "AWSEvents.PutEvents", {"Entries": [{}]}, "events:PutEvents", arn("events", "event-bus/default")),
        ("events", "AWSEvents.PutRule", {"Name": "r"}, "events:PutRule", arn("events", "rule/r")),
        ("secretsmanager", "s.GetSecretValue", {"SecretId": "token"}, "secretsmanager:GetSecretValue", SECRET),
        ("secretsmanager", "s.GetSecretValue", {"SecretId": SECRET}, "secretsmanager:GetSecretValue", SECRET),
        ("logs", "L.CreateLogGroup", {"logGroupName": "g"}, "logs:CreateLogGroup", arn("logs", "log-group:g:*")),
        (
            "logs",
            "L.PutLogEvents",
            {"logGroupName": "g", "logStreamName": "s"},
            "logs:PutLogEvents",
            arn("logs", "log-group:g:log-stream:s"),
        ),
        ("ssm", "AmazonSSM.GetParameter", {"Name": "/a/b"}, "ssm:GetParameter", arn("ssm", "parameter/a/b")),
        ("kms", "TrentService.Decrypt", {"KeyId": "1"}, "kms:Decrypt", arn("kms", "key/1")),
        ("kms", "TrentService.Decrypt", {"KeyId": "alias/a"}, "kms:Decrypt", arn("kms", "alias/a")),
        ("kinesis", "K.PutRecord", {"StreamName": "s"}, "kinesis:PutRecord", arn("kinesis", "stream/s")),
        ("monitoring", "G.PutMetricData", {"Namespace": "n"}, "cloudwatch:PutMetricData", "*"),
    ],
)
def test_actions_of_json_services(service, target, body, action, resource):
    assert needed(request(service, target=target, body=body)) == [(action, resource)]


def test_actions_of_the_query_protocol():
    body = b"Action=SendMessage&QueueUrl=http%3A%2F%2Fh%2F1%2Fq&MessageBody=x"
    assert needed(request("sqs", body=body)) == [("sqs:SendMessage", arn("sqs", "q"))]
    assert needed(request("sts", body=b"Action=GetCallerIdentity")) == [("sts:GetCallerIdentity", "*")]
    assert needed(request("sns", body=b"Action=Publish&TopicArn=arn%3At")) == [("sns:Publish", "arn:t")]


@pytest.mark.parametrize(
    ("method", "path", "query", "action", "resource"),
    [
        ("POST", "/2015-03-31/functions/f/invocations", "", "InvokeFunction", "function:f"),
        ("POST", "/2015-03-31/functions/f/invocations", "Qualifier=2", "InvokeFunction", "function:f:2"),
        (
            "POST",
            f"/2015-03-31/functions/{arn('lambda', 'function:f')}/invocations",
            "",
            "InvokeFunction",
            "function:f",
        ),
        ("GET", "/2015-03-31/functions/f", "", "GetFunction", "function:f"),
        ("GET", "/2015-03-31/functions/f/configuration", "", "GetFunctionConfiguration", "function:f"),
    ],
)
def test_lambda_actions(method, path, query, action, resource):
    assert needed(request("lambda", method, path, query)) == [(f"lambda:{action}", arn("lambda", resource))]


def test_rest_services():
    assert needed(request("xray", path="/TraceSegments")) == [("xray:PutTraceSegments", "*")]
    assert needed(request("lambda", "GET", "/2015-03-31/functions/")) == [("lambda:ListFunctions", "*")]


def test_transactions_need_a_permission_for_each_item():
    body = {
        "TransactItems": [{"Put": {"TableName": "catalog", "Item": {"pk": {"S": "a"}}}}, {"Delete": {"TableName": "t"}}]
    }
    seen = request("dynamodb", target="D.TransactWriteItems", body=body)
    assert needed(seen) == [
        ("dynamodb:PutItem", CATALOG),
        ("dynamodb:DeleteItem", arn("dynamodb", "table/t")),
    ]


@pytest.mark.parametrize(
    "seen",
    [
        request("bedrock", path="/x"),
        request("dynamodb", target="D.ExecuteStatement", body={"Statement": "select"}),
        request("dynamodb", target="D.GetItem", body=b"not json"),
        request("dynamodb", target="D.BatchWriteItem", body={"RequestItems": [1]}),
        request("states", target="S.StartExecution", body={}),
        request("xray", path="/Other"),
        request("lambda", "DELETE", "/2015-03-31/functions/f"),
        Request("GET", "h", "/b/k"),
    ],
)
def test_unknown_requests_are_not_identified(seen):
    assert identify(seen, INVENTORY) == []


def keys(operation, body):
    return identify(request("dynamodb", target=f"D.{operation}", body=body), INVENTORY)[0].context.get(
        "dynamodb:LeadingKeys"
    )


def test_leading_keys():
    assert keys("GetItem", {"TableName": "catalog", "Key": {"pk": {"S": "RUN#1"}, "sk": {"S": "x"}}}) == ["RUN#1"]
    assert keys("PutItem", {"TableName": "catalog", "Item": {"pk": {"S": "RUN#1"}, "n": {"N": "1"}}}) == ["RUN#1"]
    query = {
        "TableName": "catalog",
        "KeyConditionExpression": "#p = :p AND begins_with(sk, :s)",
        "ExpressionAttributeNames": {"#p": "pk"},
        "ExpressionAttributeValues": {":p": {"S": "RUN#2"}, ":s": {"S": "a"}},
    }
    assert keys("Query", query) == ["RUN#2"]
    condition = {"pk": {"AttributeValueList": [{"S": "RUN#3"}], "ComparisonOperator": "EQ"}}
    assert keys("Query", {"TableName": "catalog", "KeyConditions": condition}) == ["RUN#3"]
    batch = {"RequestItems": {"catalog": {"Keys": [{"pk": {"S": "a"}}, {"pk": {"S": "b"}}]}}}
    assert keys("BatchGetItem", batch) == ["a", "b"]
    write = [{"PutRequest": {"Item": {"pk": {"S": "a"}}}}, {"DeleteRequest": {"Key": {"pk": {"S": "b"}}}}]
    assert keys("BatchWriteItem", {"RequestItems": {"catalog": write}}) == ["a", "b"]
    assert keys("Scan", {"TableName": "catalog"}) is None


def allow(action="s3:GetObject", resource="arn:aws:s3:::b/*", **more):
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def decide(statements, action="s3:GetObject", resource="arn:aws:s3:::b/k", **context):
    return evaluate([{"Statement": statements}], action, resource, context)


@pytest.mark.parametrize(
    ("statements", "decision"),
    [
        ([], "implicit deny"),
        ([allow()], "allow"),
        (allow(), "allow"),
        ([allow("s3:Get*")], "allow"),
        ([allow("S3:getobject")], "allow"),
        ([allow("s3:Get?bject")], "allow"),
        ([allow("*", "*")], "allow"),
        ([allow(["s3:PutObject", "s3:GetObject"])], "allow"),
        ([allow("s3:GetObjectVersion")], "implicit deny"),
        ([allow(resource="arn:aws:s3:::b")], "implicit deny"),
        ([allow(resource="arn:aws:s3:::B/*")], "implicit deny"),
        ([allow(resource="arn:aws:*")], "allow"),
        ([allow(resource="arn:aws:s3:*:*:b/k")], "allow"),
        ([allow(), {"Effect": "Deny", "Action": "s3:*", "Resource": "*"}], "explicit deny"),
        ([allow(), {"Effect": "Deny", "NotAction": "s3:Get*", "Resource": "*"}], "allow"),
        ([{"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"}], "allow"),
        ([{"Effect": "Allow", "NotAction": "s3:*", "Resource": "*"}], "implicit deny"),
        ([{"Effect": "Allow", "Action": "*", "NotResource": "arn:aws:s3:::b/*"}], "implicit deny"),
        ([{"Effect": "Allow", "Action": "*", "NotResource": "arn:aws:s3:::c/*"}], "allow"),
    ],
)
def test_statements(statements, decision):
    assert decide(statements) == decision


@pytest.mark.parametrize(
    ("condition", "values", "holds"),
    [
        ({"StringEquals": {"k": "a"}}, ["a"], True),
        ({"StringEquals": {"K": ["b", "a"]}}, ["a"], True),
        ({"StringEquals": {"k": "a"}}, ["A"], False),
        ({"StringEquals": {"k": "a"}}, None, False),
        ({"StringEqualsIfExists": {"k": "a"}}, None, True),
        ({"StringEqualsIgnoreCase": {"k": "a"}}, ["A"], True),
        ({"StringNotEquals": {"k": "a"}}, ["b"], True),
        ({"StringNotEquals": {"k": ["a", "b"]}}, ["b"], False),
        ({"StringNotEquals": {"k": "a"}}, None, True),
        ({"StringLike": {"k": "a*c?"}}, ["abbcd"], True),
        ({"StringLike": {"k": "a${*}"}}, ["a*"], True),
        ({"StringLike": {"k": "a${*}"}}, ["ab"], False),
        ({"StringNotLike": {"k": "a*"}}, ["b"], True),
        ({"Bool": {"k": True}}, ["true"], True),
        ({"Bool": {"k": "false"}}, ["true"], False),
        ({"Null": {"k": "true"}}, None, True),
        ({"Null": {"k": "false"}}, None, False),
        ({"Null": {"k": False}}, ["x"], True),
        ({"NumericLessThanEquals": {"k": "10"}}, ["10"], True),
        ({"NumericGreaterThan": {"k": 10}}, ["10"], False),
        ({"NumericEquals": {"k": 10}}, ["x"], False),
        ({"ArnLike": {"k": "arn:aws:s3:::*"}}, ["arn:aws:s3:::x"], True),
        ({"ForAllValues:StringLike": {"k": ["RUN#*", "X"]}}, ["RUN#1", "X"], True),
        ({"ForAllValues:StringLike": {"k": ["RUN#*"]}}, ["RUN#1", "X"], False),
        ({"ForAllValues:StringLike": {"k": ["RUN#*"]}}, None, True),
        ({"ForAnyValue:StringEquals": {"k": ["X"]}}, ["RUN#1", "X"], True),
        ({"ForAnyValue:StringEquals": {"k": ["X"]}}, None, False),
        ({"StringEquals": {"k": "a"}, "Null": {"k": "true"}}, ["a"], False),
    ],
)
def test_conditions(condition, values, holds):
    context = {} if values is None else {"k": values}
    assert (decide([allow(Condition=condition)], **context) == "allow") is holds


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        (allow(Condition={"DateLessThan": {"aws:CurrentTime": "x"}}), "operator DateLessThan"),
        (allow(Condition={"StringEquals": {"aws:SourceVpc": "x"}}), "key aws:SourceVpc"),
        (allow(Condition={"Every:StringEquals": {"s3:prefix": "x"}}), "Every:StringEquals"),
        (allow(resource="arn:aws:s3:::b/${aws:username}/*"), "${aws:username}"),
        ({"Effect": "Maybe", "Action": "*", "Resource": "*"}, "'Maybe'"),
        ({"Effect": "Allow", "Resource": "*"}, "Action or NotAction"),
        ({"Effect": "Allow", "Action": "*"}, "Resource or NotResource"),
    ],
)
def test_policies_that_cant_be_enforced_are_named(statement, problem):
    assert problem in "; ".join(policy_problems({"Statement": [statement]}))


def test_context_keys_are_lower_case():
    assert all(key == key.lower() for key in CONTEXT_KEYS)
    assert list(policy_problems({"Statement": allow(Condition={"StringLike": {"s3:prefix": "x"}})})) == []


def authorizer():
    worker = RolePolicies(
        "worker",
        ROLE,
        ("lambda.amazonaws.com",),
        {
            "own": {
                "Statement": [
                    allow(),
                    allow("s3:ListBucket", "arn:aws:s3:::b", Condition={"StringLike": {"s3:prefix": "datasets/*"}}),
                    allow(
                        "dynamodb:*",
                        CATALOG,
                        Condition={"ForAllValues:StringLike": {"dynamodb:LeadingKeys": ["RUN#*"]}},
                    ),
                    {"Effect": "Deny", "Action": "s3:*", "Resource": "arn:aws:s3:::b/secret/*"},
                ]
            }
        },
    )
    machine = RolePolicies(
        "machine",
        STATES_ROLE,
        ("states.amazonaws.com",),
        {"own": {"Statement": allow("lambda:InvokeFunction", arn("lambda", "function:f"))}},
    )
    return Authorizer({ROLE: worker, STATES_ROLE: machine}, INVENTORY)


def check(key, service, *arguments, **named):
    return authorizer().check(key, request(service, *arguments, key=key, **named))


def test_a_role_may_do_what_its_policies_say():
    key = credentials_for(ROLE).access_key
    assert check(key, "s3", "GET", "/b/k") is None
    assert check(key, "s3", "GET", "/b", "list-type=2&prefix=datasets/x") is None
    assert (
        check(key, "dynamodb", target="D.GetItem", body={"TableName": "catalog", "Key": {"pk": {"S": "RUN#1"}}}) is None
    )
    assert check(key, "sts", body=b"Action=GetCallerIdentity") is None


def test_a_role_may_do_nothing_else():
    key = credentials_for(ROLE).access_key
    denied = check(key, "s3", "PUT", "/b/k")
    assert denied is not None
    assert (denied.action, denied.resource, denied.role) == ("s3:PutObject", "arn:aws:s3:::b/k", ROLE)
    assert denied.message == (
        "User: arn:aws:sts::123456789012:assumed-role/worker/shoal is not authorized to perform: s3:PutObject "
        "on resource: arn:aws:s3:::b/k because no identity-based policy allows the s3:PutObject action"
    )
    explicit = check(key, "s3", "GET", "/b/secret/k")
    assert explicit is not None
    assert "explicit deny" in explicit.message
    assert check(key, "s3", "GET", "/b", "list-type=2") is not None
    assert check(key, "dynamodb", target="D.GetItem", body={"TableName": "catalog", "Key": {"pk": {"S": "MODEL#1"}}})
    assert check(key, "lambda", "POST", "/2015-03-31/functions/f/invocations")


def test_every_permission_of_a_request_is_needed():
    key = credentials_for(ROLE).access_key
    denied = check(key, "s3", "PUT", "/b/k", headers={"x-amz-copy-source": "b/k2"})
    assert denied is not None
    assert denied.action == "s3:PutObject"


def test_an_unknown_request_of_a_role_is_denied_and_says_so():
    denied = check(credentials_for(ROLE).access_key, "bedrock", path="/model/x/invoke")
    assert denied is not None
    assert "can't tell which IAM action" in denied.message


def test_the_users_own_keys_may_do_everything():
    assert check("AKIAEXAMPLE", "s3", "DELETE", "/b") is None
    assert check("", "bedrock") is None
    assert authorizer().role_of("AKIAEXAMPLE") is None


def test_the_interpreter_acts_for_the_state_machines_roles():
    invoke = "/2015-03-31/functions/{}/invocations"
    assert check("ak", "lambda", "POST", invoke.format("f")) is None
    denied = check("ak", "lambda", "POST", invoke.format("g"))
    assert denied is not None
    assert denied.role == STATES_ROLE


def test_credentials_stay_the_same_and_differ_by_role():
    one, other = credentials_for(ROLE), credentials_for(STATES_ROLE)
    assert one == credentials_for(ROLE)
    assert one != other
    assert len(one.access_key) == 20
    assert one.access_key.isalnum()
    assert one.access_key.isupper()
    assert authorizer().role_of(one.access_key) == ROLE
