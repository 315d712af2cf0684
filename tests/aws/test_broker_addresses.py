"""The custom resource that tells CloudFormation the brokers' addresses: the code in template.yaml, run against HTTP servers."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import boto3
import pytest

from tests.aws.test_template import RESOURCES, statements

pytestmark = pytest.mark.server

FUNCTION = RESOURCES["KafkaBootstrapFunction"]["Properties"]
CLUSTER = "arn:aws:kafka:us-east-1:123456789012:cluster/payments-1/0-1"
SERVERS = "boot-1.kafka:9098,boot-2.kafka:9098"
CONTEXT = SimpleNamespace(log_group_name="the-group", log_stream_name="the-stream")
Answer = tuple[int, dict[str, str]]


class Aws(ThreadingHTTPServer):
    """MSK's GetBootstrapBrokers and CloudFormation's presigned URL. Each gives its answers in turn, the last one for ever."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Request)
        self.msk: list[Answer] = [(200, {"bootstrapBrokerStringSaslIam": SERVERS})]
        self.cloudformation = [200]
        self.asked: list[str] = []
        self.told: list[dict[str, Any]] = []
        self.content_types: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Request(BaseHTTPRequestHandler):
    server: Aws

    def do_GET(self) -> None:
        self.server.asked.append(unquote(self.path))
        self._answer(*_next(self.server.msk))

    def do_PUT(self) -> None:
        status = _next(self.server.cloudformation)
        self.server.content_types.append(self.headers["Content-Type"])
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if status == 200:
            self.server.told.append(json.loads(body))
        self._answer(status, {})

    def _answer(self, status: int, body: dict[str, str]) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        pass


def _next(answers: list[Any]) -> Any:
    return answers.pop(0) if len(answers) > 1 else answers[0]


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    server = Aws()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    settings = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in (settings | {"AWS_ENDPOINT_URL_KAFKA": server.url}).items():
        monkeypatch.setenv(name, value)
    # boto3 keeps the session, and with it the credentials, of its first client.
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def handler() -> Callable[[dict[str, Any], object], None]:
    module, function = FUNCTION["Handler"].split(".")
    assert module == "index"
    code: dict[str, Any] = {"__name__": module}
    exec(compile(FUNCTION["Code"]["ZipFile"], "index.py", "exec"), code)
    code["PAUSE_S"] = 0.001
    found: Callable[[dict[str, Any], object], None] = code[function]
    return found


def event(aws: Aws, kind: str = "Create") -> dict[str, Any]:
    names = {"StackId": "the-stack", "RequestId": "the-request", "LogicalResourceId": "KafkaBootstrap"}
    return names | {
        "RequestType": kind,
        "ResponseURL": f"{aws.url}/told?signature=x",
        "ResourceProperties": {"ClusterArn": CLUSTER},
    }


@pytest.mark.parametrize("kind", ["Create", "Update"])
def test_cloudformation_hears_the_addresses(aws: Aws, handler: Any, kind: str) -> None:
    handler(event(aws, kind), CONTEXT)
    assert aws.told == [
        {
            "StackId": "the-stack",
            "RequestId": "the-request",
            "LogicalResourceId": "KafkaBootstrap",
            "PhysicalResourceId": "bootstrap",
            "Status": "SUCCESS",
            "Data": {"Servers": SERVERS},
        }
    ]
    assert aws.asked == [f"/v1/clusters/{CLUSTER}/bootstrap-brokers"]
    assert aws.content_types == [""], "the URL is signed for a request without a content type"


def test_a_stack_that_is_deleted_asks_nobody(aws: Aws, handler: Any) -> None:
    handler(event(aws, "Delete"), CONTEXT)
    assert [answer["Status"] for answer in aws.told] == ["SUCCESS"]
    assert aws.asked == []


def test_cloudformation_hears_the_real_reason_and_where_the_log_is(
    aws: Aws, handler: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    aws.msk = [(403, {"message": "the role may not do that"})]
    handler(event(aws), CONTEXT)
    [answer] = aws.told
    assert answer["Status"] == "FAILED"
    for part in ("403", "GetBootstrapBrokers", "the role may not do that", "the-group", "the-stream"):
        assert part in answer["Reason"], part
    assert "the role may not do that" in capsys.readouterr().out
    assert len(aws.asked) == 5


def test_brokers_without_iam_are_a_reason_too(aws: Aws, handler: Any) -> None:
    aws.msk = [(200, {"bootstrapBrokerStringTls": SERVERS})]
    handler(event(aws), CONTEXT)
    assert "BootstrapBrokerStringSaslIam" in aws.told[0]["Reason"]


def test_a_reason_is_short_enough_for_cloudformation(aws: Aws, handler: Any) -> None:
    aws.msk = [(400, {"message": "why " * 3000})]
    handler(event(aws), CONTEXT)
    assert len(json.dumps(aws.told[0])) < 4096


def test_a_permission_that_has_not_arrived_yet_and_a_fault_of_aws_are_waited_for(aws: Aws, handler: Any) -> None:
    aws.msk = [(403, {"message": "not yet"}), (500, {}), *aws.msk]
    aws.cloudformation = [503, 500, 200]
    handler(event(aws), CONTEXT)
    assert [answer["Status"] for answer in aws.told] == ["SUCCESS"]


def test_lambda_tries_again_when_cloudformation_cannot_be_told(aws: Aws, handler: Any) -> None:
    aws.cloudformation = [503]
    with pytest.raises(OSError, match="503"):
        handler(event(aws), CONTEXT)


def test_all_tries_fit_into_the_functions_time_and_that_into_cloudformations() -> None:
    code = FUNCTION["Code"]["ZipFile"]
    for bound in ("TRIES = 5", "PAUSE_S = 2 ", "connect_timeout=5, read_timeout=10", '"total_max_attempts": 1', "timeout=5)"):
        assert bound in code, bound
    pauses_s = sum(2 * 2**number for number in range(4))
    asking_s, telling_s = 5 * (5 + 10) + pauses_s, 5 * (5 + 5) + pauses_s
    assert asking_s + telling_s < FUNCTION["Timeout"] < RESOURCES["KafkaBootstrap"]["Properties"]["ServiceTimeout"]


def test_its_log_outlives_a_first_deployment_that_failed() -> None:
    log = RESOURCES["KafkaBootstrapLogs"]
    assert log["DeletionPolicy"] == "Retain"
    assert "KmsKeyId" not in log["Properties"], "the key does not outlive it"
    assert FUNCTION["LoggingConfig"]["LogGroup"] == {"Ref": "KafkaBootstrapLogs"}
    written = {json.dumps(one["Resource"]) for name, one in statements() if name == "KafkaBootstrapRole" and "logs:" in str(one)}
    assert written == {json.dumps({"Fn::GetAtt": "KafkaBootstrapLogs.Arn"})}
