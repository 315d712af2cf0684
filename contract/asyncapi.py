"""docs/asyncapi.yaml: the topic, its messages and their CloudEvents headers. `python -m contract.asyncapi` writes it."""

import json
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from contract import schemas
from contract.examples import EVENTS
from contract.openapi import schemas_of
from payments import __version__
from payments.broker.kafka import message_of
from payments.domain.events import SOURCE, Event

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "asyncapi.yaml"

INTRODUCTION = """\
The events of payments, for other services. Each message is a CloudEvent 1.0 in Kafka's binary mode: its attributes are headers,
and its value is the payment as it was right after the change. Every outcome of a command is told, those that leave the payment's
status alone too.

**At least once**: a message may come again with the same `ce_id`. Ignore a message whose `ce_id` you have seen. A payment's
messages share its key, so they stay in one partition, and `ce_sequence` counts them from 1 without gaps, as `0000000001`. A
`payment.refused` is no message of a payment: it stands alone under its own id, and its value is a problem document.

**Schemas**: `ce_dataschema` names the JSON Schema of the value, `urn:payments:schema:TYPE:1`. The folder `schemas` beside this
document has it as `TYPE.1.json`.

**Messages are open.** A value may get new members, a member new values, and the topic new types of events, without notice: ignore
what you do not know. `x-extensible-enum` lists the known values of a member. docs/versioning.md says what may change without a
new version. Amounts go up to 999,999,999,999, so keep them in 64 bits.
"""

SUMMARIES = {
    "payment.successful": "The money was taken, at once or from an authorization",
    "payment.failed": "The gateway declined the payment; it will not change any more",
    "payment.refunded": "Some or all of the money was given back; `refund` is the refund that did it",
    "payment.requires_action": "The customer has to act; no money has moved",
    "payment.authorized": "The money is held until `capture_before`",
    "payment.voided": "The authorization was released, on request or because it ran out; or the customer did not act",
    "payment.refund_failed": "A refund was declined, or came back after its success; `refund` is that refund",
    "payment.capture_failed": "The gateway declined a capture; the payment is still authorized, and `decline_code` says why",
    "payment.void_failed": "The gateway declined a void; the payment is as it was, and `decline_code` says why",
    "payment.disputed": "The customer's bank asks for the money back, or for something else than before; `dispute` says what",
    "payment.dispute_closed": "A dispute ended, or ended in another way than was told before; `dispute` says how",
    "payment.refused": "A direct invocation was refused for good, and nothing was done; `code` says why",
}

MODELS: dict[str, type[BaseModel]] = {
    "payment.refunded": schemas.PaymentWithRefund,
    "payment.refund_failed": schemas.PaymentWithRefund,
    "payment.disputed": schemas.PaymentWithDispute,
    "payment.dispute_closed": schemas.PaymentWithDispute,
    "payment.refused": schemas.RequestRefused,
}
"""All others are the payment alone."""

TEXT: dict[str, Any] = {"type": "string"}
_TRACE = TEXT | {"pattern": "^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"}
HEADERS: dict[str, dict[str, Any]] = {
    "ce_specversion": TEXT | {"const": "1.0", "description": "The version of CloudEvents"},
    "ce_id": TEXT | {"format": "uuid", "description": "The event's id: the same whenever it is sent again"},
    "ce_source": TEXT | {"const": SOURCE, "description": "Who sends the event. With ce_id it names the event in the whole world"},
    "ce_type": TEXT
    | {"description": "The type of the event. A later version may send other types: ignore those that you do not know"},
    "ce_time": TEXT | {"format": "date-time", "description": "When the payment changed"},
    "ce_subject": TEXT | {"format": "uuid", "description": "The payment's id (of a refusal its own id), and the message's key"},
    "ce_sequence": TEXT
    | {
        "pattern": "^(?!0{10}$)[0-9]{10}$",
        "description": "Counts the payment's events from 1 without gaps, in ten digits, so that its order as text is that of the "
        "events. Messages of version 0.1.0 have no leading zeros: read it as a number while the topic holds such messages",
    },
    "ce_dataschema": TEXT
    | {
        "format": "uri",
        "description": "The schema of the value, which docs/schemas/ has. Messages of version 0.1.0 do not have this header",
    },
    "content-type": TEXT | {"const": "application/json", "description": "The value is JSON in UTF-8"},
    "ce_traceparent": _TRACE
    | {"description": "W3C trace context of the request, as CloudEvents' extension for distributed tracing has it"},
    "traceparent": _TRACE | {"description": "The same, where OpenTelemetry and the consumers of version 0.1.0 look for it"},
}
"""A change that a request caused has both headers of its trace context. A change that the service made by itself has neither."""

OPTIONAL = {"ce_traceparent", "traceparent"}


def document() -> dict[str, Any]:
    names = {type_: "".join(part.capitalize() for part in type_.split(".")) for type_ in EVENTS}
    refs = {name: {"$ref": f"#/components/messages/{name}"} for name in names.values()}
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Payments on Lambda: events", "version": __version__, "description": INTRODUCTION},
        "defaultContentType": "application/json",
        "servers": {"kafka": {"host": "127.0.0.1:9092", "protocol": "kafka", "description": "Amazon MSK, or a local broker"}},
        "channels": {
            "payments": {
                "address": "payments",
                "description": "One topic for all payments; KAFKA_TOPIC names another.",
                "messages": refs,
                "bindings": {"kafka": {"topic": "payments", "bindingVersion": "0.5.0"}},
            }
        },
        "operations": {
            "publishPaymentEvents": {
                "action": "send",
                "channel": {"$ref": "#/channels/payments"},
                "messages": [{"$ref": f"#/channels/payments/messages/{name}"} for name in names.values()],
            }
        },
        "components": {
            "messages": {name: _message(EVENTS[type_]) for type_, name in names.items()},
            "schemas": dict(sorted(schemas_of(schemas.Payment, *dict.fromkeys(MODELS.values())).items())),
        },
    }


def _message(event: Event) -> dict[str, Any]:
    model = MODELS.get(event.type, schemas.Payment)
    sent = message_of(event)
    headers = {name: value.decode() for name, value in sent["headers"]}
    own = {name: {"const": headers[name]} for name in ("ce_type", "ce_dataschema")}
    return {
        "name": event.type,
        "summary": SUMMARIES[event.type],
        "contentType": "application/json",
        "headers": {
            "type": "object",
            "properties": {name: schema | own.get(name, {}) for name, schema in HEADERS.items()},
            "required": [name for name in HEADERS if name not in OPTIONAL],
        },
        "payload": {"$ref": f"#/components/schemas/{model.__name__}"},
        "bindings": {"kafka": {"key": {"type": "string", "format": "uuid"}, "bindingVersion": "0.5.0"}},
        "examples": [{"headers": headers, "payload": json.loads(sent["value"])}],
    }


class _Plain(yaml.SafeDumper):
    """YAML without anchors, and long texts as blocks, so that people can read it."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - as PyYAML calls it
        return True


_Plain.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)


def text() -> str:
    return yaml.dump(document(), Dumper=_Plain, sort_keys=False, allow_unicode=True, width=130)


if __name__ == "__main__":
    DOCUMENT.write_text(text(), encoding="utf-8")
