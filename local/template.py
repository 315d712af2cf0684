"""Read template.yaml as plain data: functions, routes, schedules, environment, CORS.

We resolve only the functions, their layers and events, and the HTTP API, so other resources may use any intrinsic function.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ACCOUNT_ID = "123456789012"
REGION = "us-east-1"
_PSEUDO_PARAMETERS = {
    "AWS::AccountId": ACCOUNT_ID,
    "AWS::Region": REGION,
    "AWS::Partition": "aws",
    "AWS::StackName": "local",
    "AWS::URLSuffix": "amazonaws.com",
}
_UNIT_S = {"minute": 60, "hour": 3600, "day": 86400}
_NO_VALUE = object()  # !Ref AWS::NoValue: we leave the property out


class TemplateError(Exception):
    """We cannot run the template. The message says which part and why."""


@dataclass(frozen=True)
class Function:
    name: str  # the logical id, for example ProcessFunction
    short_name: str  # the code folder's name, for example process
    code_folder: Path
    layer_folders: tuple[Path, ...]
    handler: str
    timeout_s: float
    memory_mb: int
    async_retries: int  # further tries of an asynchronous invocation that failed
    environment: dict[str, str]
    alias: str  # API Gateway and the schedules invoke it; without one, the function itself
    other_aliases: frozenset[str] = frozenset()

    @property
    def arn(self) -> str:
        return function_arn(self.name, self.alias)

    def has(self, qualifier: str) -> bool:
        """Say whether the qualifier names the function. A local run publishes no versions."""
        return qualifier in {"", "$LATEST", self.alias, *self.other_aliases}


@dataclass(frozen=True)
class Route:
    method: str  # upper case; ANY stands for all
    path: str  # /payment/{payment_id}; {name+} takes the rest of the path
    function: str
    authorized: bool  # whether the API's authorizer guards it


@dataclass(frozen=True)
class Schedule:
    name: str
    function: str
    interval_s: float  # as on AWS; a local run is faster
    input: str | None  # JSON text to send instead of the usual scheduled event
    is_rule: bool  # a rule of EventBridge; else a schedule of EventBridge Scheduler


@dataclass(frozen=True)
class Template:
    functions: dict[str, Function]
    routes: tuple[Route, ...]
    schedules: tuple[Schedule, ...]
    cors: dict[str, Any] | None  # as arguments of Starlette's CORSMiddleware; None when the API has no CORS configuration

    def function(self, name: str) -> Function | None:
        """Find a function by its logical id or its short name."""
        return self.functions.get(name) or next((f for f in self.functions.values() if f.short_name == name), None)


def function_arn(name: str, qualifier: str = "") -> str:
    """Return the ARN by which a function is invoked. `qualifier` is an alias or a version."""
    return ":".join(filter(None, (f"arn:aws:lambda:{REGION}:{ACCOUNT_ID}:function", name, qualifier)))


def load_template(path: Path, parameters: Mapping[str, str] | None = None) -> Template:
    """Read the template. `parameters` replace its defaults; as sam local does, ignore unknown ones. Raises TemplateError."""
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506 - a SafeLoader that knows more tags
        return _Reader(document, path.resolve().parent, parameters or {}).template()
    except OSError as error:
        raise TemplateError(f"{path} cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise TemplateError(f"{path} is not valid YAML: {error}") from error
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise TemplateError(f"{path} does not have the expected shape: {error!r}") from error


class _Loader(yaml.SafeLoader):
    """Read YAML with CloudFormation's short tags: `!Sub x` becomes {"Fn::Sub": "x"}."""

    def tag(self, name: str, node: Any) -> dict[str, Any]:
        if isinstance(node, yaml.SequenceNode):
            value: Any = self.construct_sequence(node, deep=True)
        elif isinstance(node, yaml.MappingNode):
            value = self.construct_mapping(node, deep=True)
        else:
            value = self.construct_scalar(node)
        return {name if name in ("Ref", "Condition") else f"Fn::{name}": value}


_Loader.add_multi_constructor("!", _Loader.tag)


class _Reader:
    def __init__(self, document: dict[str, Any], folder: Path, overrides: Mapping[str, str]) -> None:
        self.folder = folder
        self.resources: dict[str, Any] = document["Resources"]
        self.globals: dict[str, Any] = document.get("Globals", {})
        self.conditions: dict[str, Any] = document.get("Conditions", {})
        self.parameters: dict[str, Any] = {}
        declared = document.get("Parameters", {})
        for name, parameter in declared.items():
            value = overrides.get(name, parameter.get("Default"))
            if value is not None:
                is_list = "List" in parameter["Type"]
                self.parameters[name] = [part.strip() for part in value.split(",")] if is_list else value

    def template(self) -> Template:
        functions, routes, schedules = {}, [], []
        for name, properties in self.of_type("AWS::Serverless::Function"):
            functions[name] = self.function(name, properties)
            for event_name, event in properties.get("Events", {}).items():
                settings = self.value(event.get("Properties", {}))
                if event["Type"] == "HttpApi":
                    authorized = settings.get("Auth", {}).get("Authorizer") != "NONE"
                    routes.append(Route(settings["Method"].upper(), settings["Path"], name, authorized))
                elif event["Type"] in ("Schedule", "ScheduleV2"):
                    schedules.append(_schedule(name, event_name, event["Type"] == "Schedule", settings))
        return Template(functions, tuple(routes), tuple(schedules), self.cors())

    def of_type(self, kind: str) -> list[tuple[str, dict[str, Any]]]:
        """Return (name, properties) of each resource of the type, unless its condition is false."""
        found = [(name, each) for name, each in self.resources.items() if each["Type"] == kind]
        return [
            (name, each.get("Properties", {}))
            for name, each in found
            if "Condition" not in each or self.value({"Condition": each["Condition"]})
        ]

    def function(self, name: str, own: dict[str, Any]) -> Function:
        shared = self.globals.get("Function", {})

        def setting(key: str, default: Any = None) -> Any:
            value = self.value(own.get(key, shared.get(key, default)))
            if value is None:
                raise TemplateError(f"{name} has no {key}")
            return value

        code_folder = self.folder / setting("CodeUri")
        layers = self.value([*shared.get("Layers", []), *own.get("Layers", [])])
        # A layer that the template gives by its ARN exists only on AWS.
        contents = [self.resources[layer]["Properties"]["ContentUri"] for layer in layers if layer in self.resources]
        variables = [self.value(level.get("Environment", {})).get("Variables", {}) for level in (shared, own)]
        return Function(
            name,
            code_folder.name,
            code_folder,
            layer_folders=tuple(self.folder / self.value(content) for content in contents),
            handler=setting("Handler"),
            timeout_s=float(setting("Timeout", 3)),
            memory_mb=int(setting("MemorySize", 128)),
            async_retries=int(setting("EventInvokeConfig", {}).get("MaximumRetryAttempts", 2)),
            environment={key: _text(value) for level in variables for key, value in level.items()},
            alias=setting("AutoPublishAlias", ""),
            other_aliases=frozenset(
                self.value(alias["Name"])
                for _, alias in self.of_type("AWS::Lambda::Alias")
                if self.value(alias["FunctionName"]) == name
            ),
        )

    def cors(self) -> dict[str, Any] | None:
        shared = self.globals.get("HttpApi", {})
        for api in (shared, *(properties for _, properties in self.of_type("AWS::Serverless::HttpApi"))):
            if cors := self.value(api.get("CorsConfiguration")):
                lists = {"AllowOrigins": "allow_origins", "AllowMethods": "allow_methods"}
                lists |= {"AllowHeaders": "allow_headers", "ExposeHeaders": "expose_headers"}
                allow_credentials = _text(cors.get("AllowCredentials", False)) == "true"
                given = {lists[name]: value for name, value in cors.items() if name in lists}
                return given | {"allow_credentials": allow_credentials, "max_age": int(cors.get("MaxAge", 0))}
        return None

    def value(self, node: Any) -> Any:
        """Return the node with every intrinsic function in it resolved."""
        if isinstance(node, list):
            return [value for item in node if (value := self.value(item)) is not _NO_VALUE]
        if not isinstance(node, dict):
            return node
        name = next(iter(node), "")
        if len(node) == 1 and (name.startswith("Fn::") or name in ("Ref", "Condition")):
            return self.intrinsic(name, node[name])
        return {key: value for key, item in node.items() if (value := self.value(item)) is not _NO_VALUE}

    def intrinsic(self, name: str, argument: Any) -> Any:
        match name:
            case "Ref":
                return self.ref(argument)
            case "Condition":
                return self.value(self.conditions[argument])
            case "Fn::If":
                return self.value(argument[1 if self.value(self.conditions[argument[0]]) else 2])
            case "Fn::Equals":
                return _text(self.value(argument[0])) == _text(self.value(argument[1]))
            case "Fn::Not":
                return not self.value(argument[0])
            case "Fn::And":
                return all(map(self.value, argument))
            case "Fn::Or":
                return any(map(self.value, argument))
            case "Fn::Join":
                return argument[0].join(map(_text, self.value(argument[1])))
            case "Fn::GetAtt":
                return self.attribute(*(argument.split(".", 1) if isinstance(argument, str) else argument))
            case "Fn::Sub":
                text, values = (argument, {}) if isinstance(argument, str) else (argument[0], self.value(argument[1]))
                return re.sub(r"\$\{(!?)([^}]+)\}", lambda match: self.substitute(match[1], match[2], values), text)
        raise TemplateError(f"a local run does not know {name}")

    def substitute(self, literal: str, name: str, values: dict[str, Any]) -> str:
        if literal:
            return f"${{{name}}}"
        if name in values:
            return _text(values[name])
        return self.attribute(*name.split(".", 1)) if "." in name else _text(self.ref(name))

    def ref(self, name: str) -> Any:
        if name == "AWS::NoValue":
            return _NO_VALUE
        known = {name: name for name in self.resources} | _PSEUDO_PARAMETERS | self.parameters
        if name not in known:
            raise TemplateError(f"{name} is a parameter without a value, or the template does not define it")
        return known[name]

    def attribute(self, resource: str, attribute: str) -> str:
        is_function = self.resources[resource]["Type"] == "AWS::Serverless::Function"
        return function_arn(resource) if is_function and attribute == "Arn" else f"{resource}.{attribute}"


def _schedule(function: str, name: str, is_rule: bool, settings: dict[str, Any]) -> Schedule:
    expression = settings.get("ScheduleExpression") or settings["Schedule"]
    rate = re.fullmatch(r"rate\((\d+) (minute|hour|day)s?\)", expression)
    # A cron expression names times of day. A local run needs only an interval, and takes a day.
    interval_s = int(rate[1]) * _UNIT_S[rate[2]] if rate else _UNIT_S["day"]
    return Schedule(f"{function}{name}", function, interval_s, settings.get("Input"), is_rule)


def _text(value: Any) -> str:
    """Return the value as CloudFormation writes it into a string."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return ",".join(map(_text, value)) if isinstance(value, list) else str(value)
