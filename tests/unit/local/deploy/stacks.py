"""A template that uses most of what the embedded cloud honours, in a folder of its own."""

from __future__ import annotations

from pathlib import Path

TEMPLATE = """
AWSTemplateFormatVersion: 2010-09-09
Transform: AWS::Serverless-2016-10-31
Parameters:
  Stage: {Type: String, Default: dev, AllowedValues: [dev, prod]}
  EndpointUrl: {Type: String, Default: "", AllowedPattern: "(https?://.*)?"}
  RetentionDays: {Type: Number, Default: 7, MinValue: 1}
Mappings:
  Memory:
    dev: {Small: 256}
    prod: {Small: 512}
Conditions:
  IsProd: !Equals [!Ref Stage, prod]
  IsLocal: !Not [!Equals [!Ref EndpointUrl, ""]]
Globals:
  Function:
    Runtime: python3.13
    Timeout: 30
    Tracing: Active
    MemorySize: !FindInMap [Memory, !Ref Stage, Small]
    Layers: [!Ref CoreLayer, !Ref BinaryLayer]
    Environment:
      Variables:
        STAGE: !Ref Stage
        ENDPOINT: !If [IsLocal, !Ref EndpointUrl, !Ref AWS::NoValue]
Resources:
  CoreLayer:
    Type: AWS::Serverless::LayerVersion
    Metadata: {BuildMethod: python3.13}
    Properties: {ContentUri: layers/core, CompatibleRuntimes: [python3.13]}
  BinaryLayer:
    Type: AWS::Serverless::LayerVersion
    Metadata: {BuildMethod: makefile}
    Properties: {ContentUri: layers/binary, CompatibleRuntimes: [python3.13]}
  Uploads:
    Type: AWS::S3::Bucket
    DeletionPolicy: Retain
    UpdateReplacePolicy: Retain
    Properties:
      BucketName: !Sub "${AWS::StackName}-uploads-${AWS::AccountId}"
      BucketEncryption:
        ServerSideEncryptionConfiguration:
          - ServerSideEncryptionByDefault: {SSEAlgorithm: AES256}
      VersioningConfiguration: {Status: Enabled}
      PublicAccessBlockConfiguration:
        {BlockPublicAcls: true, BlockPublicPolicy: true, IgnorePublicAcls: true, RestrictPublicBuckets: true}
      OwnershipControls: {Rules: [{ObjectOwnership: BucketOwnerEnforced}]}
      LifecycleConfiguration:
        Rules:
          - {Id: versions, Status: Enabled, NoncurrentVersionExpiration: {NoncurrentDays: 30}}
          - {Status: Enabled, AbortIncompleteMultipartUpload: {DaysAfterInitiation: 1}}
          - {Id: old, Status: Enabled, Prefix: runs/, ExpirationInDays: 90}
      Tags: [{Key: stage, Value: !Ref Stage}]
  UploadsPolicy:
    Type: AWS::S3::BucketPolicy
    Properties:
      Bucket: !Ref Uploads
      PolicyDocument:
        Version: 2012-10-17
        Statement:
          - Effect: Deny
            Principal: "*"
            Action: s3:*
            Resource: [!GetAtt Uploads.Arn, !Sub "${Uploads.Arn}/*"]
            Condition: {Bool: {aws:SecureTransport: "false"}}
  Artifacts: {Type: AWS::S3::Bucket}
  Catalog:
    Type: AWS::DynamoDB::Table
    Properties:
      BillingMode: PAY_PER_REQUEST
      AttributeDefinitions: [{AttributeName: pk, AttributeType: S}, {AttributeName: sk, AttributeType: S}]
      KeySchema: [{AttributeName: pk, KeyType: HASH}, {AttributeName: sk, KeyType: RANGE}]
      PointInTimeRecoverySpecification: {PointInTimeRecoveryEnabled: true}
      TimeToLiveSpecification: {AttributeName: expires_at, Enabled: true}
      SSESpecification: {SSEEnabled: true}
  Failed:
    Type: AWS::SQS::Queue
    Properties: {SqsManagedSseEnabled: true, MessageRetentionPeriod: 1209600}
  IngestFunction:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: functions/ingest
      Handler: app.handler
      EventInvokeConfig:
        MaximumRetryAttempts: 1
        DestinationConfig: {OnFailure: {Type: SQS, Destination: !GetAtt Failed.Arn}}
      Environment:
        Variables: {TABLE: !Ref Catalog, MACHINE: !Sub "arn:aws:states:${AWS::Region}:${AWS::AccountId}:stateMachine:x"}
      Policies:
        - S3ReadPolicy: {BucketName: !Sub "${AWS::StackName}-uploads-${AWS::AccountId}"}
        - DynamoDBCrudPolicy: {TableName: !Ref Catalog}
        - Statement:
            - Effect: Allow
              Action: s3:PutObject
              Resource: !Sub "${Artifacts.Arn}/datasets/*"
      Events:
        Upload:
          Type: S3
          Properties:
            Bucket: !Ref Uploads
            Events: s3:ObjectCreated:*
            Filter: {S3Key: {Rules: [{Name: prefix, Value: datasets/}]}}
  IngestLogs:
    Type: AWS::Logs::LogGroup
    Properties: {LogGroupName: !Sub "/aws/lambda/${IngestFunction}", RetentionInDays: !Ref RetentionDays}
  ApiFunction:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: functions/api
      Handler: app.handler
      Timeout: 10
      Environment: {Variables: {SECRET: !Ref Token}}
      Policies:
        - Statement: [{Effect: Allow, Action: secretsmanager:GetSecretValue, Resource: !Ref Token}]
      Events:
        Predict:
          Type: HttpApi
          Properties: {ApiId: !Ref HttpApi, Path: "/models/{name}/predict", Method: POST}
        Rest:
          Type: HttpApi
          Properties: {ApiId: !Ref HttpApi, Path: "/{proxy+}", Method: ANY}
        Health:
          Type: HttpApi
          Properties: {ApiId: !Ref HttpApi, Path: /healthz, Method: GET, Auth: {Authorizer: NONE}}
  AuthorizeFunction:
    Type: AWS::Serverless::Function
    Properties: {CodeUri: functions/api, Handler: app.authorize}
  HttpApi:
    Type: AWS::Serverless::HttpApi
    Properties:
      Auth:
        DefaultAuthorizer: Token
        Authorizers:
          Token:
            FunctionArn: !GetAtt AuthorizeFunction.Arn
            AuthorizerPayloadFormatVersion: "2.0"
            EnableSimpleResponses: true
            EnableFunctionDefaultPermissions: true
            Identity: {Headers: [Authorization], ReauthorizeEvery: 60}
      AccessLogSettings: {DestinationArn: !GetAtt HttpApiLogs.Arn, Format: '{"status":"$context.status"}'}
      DefaultRouteSettings: {ThrottlingBurstLimit: 10, ThrottlingRateLimit: 5}
  HttpApiLogs:
    Type: AWS::Logs::LogGroup
    Properties: {RetentionInDays: 30}
  Token:
    Type: AWS::SecretsManager::Secret
    Properties:
      Name: !Sub "${AWS::StackName}/token"
      GenerateSecretString: {PasswordLength: 48, ExcludePunctuation: true}
  Training:
    Type: AWS::Serverless::StateMachine
    Properties:
      DefinitionUri: statemachines/training.asl.yaml
      DefinitionSubstitutions: {IngestArn: !GetAtt IngestFunction.Arn, Retries: 3}
      Policies: [{LambdaInvokePolicy: {FunctionName: !Ref IngestFunction}}]
      Logging:
        Level: ERROR
        Destinations: [{CloudWatchLogsLogGroup: {LogGroupArn: !GetAtt HttpApiLogs.Arn}}]
      Tracing: {Enabled: true}
      Tags: {kind: training}
  ProdQueue:
    Type: AWS::SQS::Queue
    Condition: IsProd
Outputs:
  Bucket: {Value: !Ref Uploads}
  Table: {Value: !Ref Catalog}
  StateMachineArn: {Value: !Ref Training}
  ApiUrl: {Value: !GetAtt HttpApi.ApiEndpoint}
  TokenSecretArn: {Value: !Ref Token}
  ProdOnly: {Condition: IsProd, Value: !Ref ProdQueue}
"""

STATE_MACHINE = """
Comment: ${IngestArn} is text
StartAt: Ingest
States:
  Ingest:
    Type: Task
    Resource: arn:aws:states:::lambda:invoke
    TimeoutSeconds: 60
    Parameters: {FunctionName: "${IngestArn}", Payload.$: $}
    Retry: [{ErrorEquals: [Lambda.TooManyRequestsException], MaxAttempts: ${Retries}}]
    End: true
"""

FILES = {
    "functions/ingest/app.py": "def handler(event, context):\n    return event\n",
    "functions/api/app.py": "def handler(event, context):\n    return event\n",
    "layers/core/core_package/__init__.py": "",
    "layers/binary/Makefile": "build-BinaryLayer:\n",
    "layers/binary/looks_like_a_package/__init__.py": "",
    "statemachines/training.asl.yaml": STATE_MACHINE,
}


def write_project(folder: Path, template: str = TEMPLATE, files: dict[str, str] | None = None) -> Path:
    """Write a template and the files it names; gives the template's path."""
    for name, text in {**FILES, **(files or {}), "template.yaml": template}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder / "template.yaml"
