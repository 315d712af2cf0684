"""The local run reads template.yaml as CloudFormation and SAM do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from local.template import Route, Template, TemplateError, load_template

REPOSITORY = Path(__file__).resolve().parents[2]


def test_a_functions_environment_is_the_globals_with_its_own_on_top(template: Template) -> None:
    assert template.functions["EchoFunction"].environment == {
        "DATABASE_URL": "postgresql://me@here/db",
        "TOPIC": "payments",
        "RATE": "0.95",
        "FLAG": "true",
        "OWN": "us-east-1-payments${literal}-arn:aws:lambda:us-east-1:123456789012:function:BrokenFunction",
    }
    assert template.functions["BrokenFunction"].environment["OWN"] == "shared"


def test_a_function_has_its_folders_and_limits(template: Template, stack: Path) -> None:
    echo = template.functions["EchoFunction"]
    assert (echo.short_name, echo.handler, echo.timeout_s, echo.memory_mb, echo.async_retries) == (
        "echo",
        "handler.lambda_handler",
        2,
        256,
        2,
    )
    assert echo.code_folder == stack.parent / "functions" / "echo"
    assert echo.layer_folders == (stack.parent / "layer",)
    broken = template.functions["BrokenFunction"]
    assert (broken.timeout_s, broken.memory_mb, broken.async_retries) == (5, 128, 1)
    assert template.function("echo") is template.function("EchoFunction") is echo
    assert template.function("nobody") is None


def test_conditions_and_parameters_decide_what_there_is(stack: Path) -> None:
    template = load_template(stack, {"DatabaseUrl": "unused", "Proxy": "proxy.example", "NoSuchParameter": "ignored"})
    assert set(template.functions) == {"EchoFunction", "BrokenFunction", "ProxyFunction"}
    environment = template.functions["EchoFunction"].environment
    assert environment["DATABASE_URL"] == "postgresql://x@proxy.example/db"
    assert environment["LEFT_OUT"] == "yes"


def test_routes_schedules_and_cors(template: Template) -> None:
    assert Route("POST", "/echo", "EchoFunction", authorized=True) in template.routes
    assert Route("ANY", "/files/{rest+}", "EchoFunction", authorized=False) in template.routes
    assert [(s.function, s.interval_s, s.input, s.is_rule) for s in template.schedules] == [
        ("BrokenFunction", 120, None, False),
        ("BrokenFunction", 86400, '{"night": true}', True),
    ]
    assert template.cors == {
        "allow_origins": ["https://shop.example", "https://other.example"],
        "allow_methods": ["GET", "POST"],
        "allow_headers": ["content-type"],
        "allow_credentials": False,
        "max_age": 600,
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("a: [", "not valid YAML", id="broken YAML"),
        pytest.param("{}", "KeyError", id="no resources"),
        pytest.param(
            "Resources: {F: {Type: AWS::Serverless::Function, Properties: {Handler: h.h}}}", "F has no CodeUri", id="no code"
        ),
        pytest.param(
            "Resources: {F: {Type: AWS::Serverless::Function, Properties: {CodeUri: f, Handler: !Ref Nobody}}}",
            "Nobody is a parameter without a value",
            id="unknown reference",
        ),
        pytest.param(
            "Resources: {F: {Type: AWS::Serverless::Function, Properties: {CodeUri: f, Handler: !Transform x}}}",
            "does not know Fn::Transform",
            id="unknown intrinsic",
        ),
    ],
)
def test_what_cannot_be_run_is_told(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "template.yaml").write_text(text)
    with pytest.raises(TemplateError, match=message):
        load_template(tmp_path / "template.yaml")
    with pytest.raises(TemplateError, match="cannot be read"):
        load_template(tmp_path / "missing.yaml")


def test_every_function_of_the_real_template_has_its_handler() -> None:
    template = load_template(
        REPOSITORY / "template.yaml", {"DatabaseUrl": "x", "DatabaseOwnerUrl": "x", "KafkaBootstrapServers": "x"}
    )
    for function in template.functions.values():
        module, _, name = function.handler.rpartition(".")
        assert re.search(rf"^(def {name}\(|{name} = )", (function.code_folder / f"{module}.py").read_text(), re.MULTILINE)
        assert all(folder.is_dir() for folder in function.layer_folders)
    assert {schedule.function for schedule in template.schedules} >= {"RelayFunction", "ReconcileFunction"}
