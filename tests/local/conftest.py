"""A small stack of echo functions, so that these tests are about the local run and not about the payment service."""

from __future__ import annotations

from pathlib import Path

import pytest

from local.template import Template, load_template

TEMPLATE = """
AWSTemplateFormatVersion: 2010-09-09
Transform: AWS::Serverless-2016-10-31
Parameters:
  DatabaseUrl: {Type: String}
  KafkaTopic: {Type: String, Default: payments}
  Origins: {Type: CommaDelimitedList, Default: "https://shop.example, https://other.example"}
  Proxy: {Type: String, Default: ""}
  SubnetIds: {Type: CommaDelimitedList}
Conditions:
  HasProxy: !Not [!Equals [!Ref Proxy, ""]]
  NoProxy: !Not [!Condition HasProxy]
  Both: !And [!Condition HasProxy, !Equals [!Ref KafkaTopic, payments]]
Globals:
  Function:
    AutoPublishAlias: live
    Handler: handler.lambda_handler
    Timeout: 5
    Layers: [!Ref SharedLayer, "arn:aws:lambda:eu-central-1:123456789012:layer:insights:1"]
    VpcConfig: {SubnetIds: !Ref SubnetIds, SecurityGroupIds: !Split [",", !ImportValue groups]}
    Environment:
      Variables:
        DATABASE_URL: !If [HasProxy, !Sub "postgresql://x@${Proxy}/db", !Ref DatabaseUrl]
        TOPIC: !Ref KafkaTopic
        RATE: 0.95
        FLAG: true
        OWN: shared
Resources:
  SharedLayer:
    Type: AWS::Serverless::LayerVersion
    Properties: {ContentUri: layer/}
  Api:
    Type: AWS::Serverless::HttpApi
    Properties:
      CorsConfiguration: {AllowOrigins: !Ref Origins, AllowMethods: [GET, POST], AllowHeaders: [content-type], MaxAge: 600}
  EchoFunction:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: functions/echo/
      Timeout: 2
      MemorySize: 256
      Policies: [!Sub "${AWS::Partition}:x"]
      Environment:
        Variables:
          OWN: !Join ["-", [!Ref AWS::Region, !Sub "${KafkaTopic}${!literal}", !GetAtt BrokenFunction.Arn]]
          LEFT_OUT: !If [Both, "yes", !Ref AWS::NoValue]
      Events:
        Echo: {Type: HttpApi, Properties: {Path: /echo, Method: POST, ApiId: !Ref Api}}
        ById: {Type: HttpApi, Properties: {Path: "/payment/{payment_id}", Method: GET}}
        History: {Type: HttpApi, Properties: {Path: "/payment/{payment_id}/history", Method: GET}}
        Latest: {Type: HttpApi, Properties: {Path: /payment/latest, Method: GET}}
        Files: {Type: HttpApi, Properties: {Path: "/files/{rest+}", Method: ANY, Auth: {Authorizer: NONE}}}
  EchoDirect:
    Type: AWS::Lambda::Alias
    Properties: {Name: direct, FunctionName: !Ref EchoFunction, FunctionVersion: !GetAtt EchoFunction.Version.Version}
  BrokenFunction:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: functions/broken/
      EventInvokeConfig: {MaximumRetryAttempts: 1}
      Events:
        Broken: {Type: HttpApi, Properties: {Path: /broken, Method: GET}}
        Every: {Type: ScheduleV2, Properties: {ScheduleExpression: rate(2 minutes)}}
        Nightly: {Type: Schedule, Properties: {Schedule: "cron(0 3 * * ? *)", Input: '{"night": true}'}}
  ProxyFunction:
    Type: AWS::Serverless::Function
    Condition: HasProxy
    Properties: {CodeUri: functions/proxy/}
"""

ECHO = """
import json, os, sys, time
from pathlib import Path

loaded_at = time.time()

def lambda_handler(event, context):
    print("a line of the log,", context.aws_request_id)
    sys.stderr.write(event.get("written", ""))
    todo = event.get("todo") or json.loads(event.get("body") or "{}").get("todo")
    if todo == "raise":
        raise ValueError("no such luck")
    if todo == "raise twice":
        tries = Path(event["file"])
        tries.write_text(tries.read_text() + context.aws_request_id + "\\n" if tries.exists() else context.aws_request_id + "\\n")
        if len(tries.read_text().splitlines()) < 3:
            raise ValueError("not yet")
    if todo == "sleep":
        time.sleep(event["seconds"])
    if todo == "exit":
        os._exit(3)
    if todo == "unserialisable":
        return object()
    if "answer" in event:
        return event["answer"]
    return {
        "event": event,
        "pid": os.getpid(),
        "environment": dict(os.environ),
        "path": sys.path,
        "context": [context.function_name, context.invoked_function_arn, context.memory_limit_in_mb, context.aws_request_id],
        "remaining_ms": context.get_remaining_time_in_millis(),
    }
"""


def write_stack(folder: Path) -> Path:
    """Write a template, with the functions it names beside it. Return the template's path."""
    (folder / "template.yaml").write_text(TEMPLATE)
    for name, code in {"echo": ECHO, "broken": "import no_such_module"}.items():
        (folder / "functions" / name).mkdir(parents=True)
        (folder / "functions" / name / "handler.py").write_text(code)
    return folder / "template.yaml"


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    """The path of the template."""
    return write_stack(tmp_path)


@pytest.fixture
def template(stack: Path) -> Template:
    return load_template(stack, {"DatabaseUrl": "postgresql://me@here/db"})
