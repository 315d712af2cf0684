"""What `make sdks` would say of an SDK that reads something else than what was sent, and of events that it should not accept."""

from __future__ import annotations

import json
from typing import Any

import pytest

from contract.examples import EVENTS
from contract.sdks.__main__ import TRACE, Wrong, check, compare
from payments.broker.kafka import message_of

MESSAGE = message_of(EVENTS["payment.successful"])
HEADERS = {name.removeprefix("ce_"): value.decode() for name, value in MESSAGE["headers"] if name.startswith("ce_")}
EVENT: dict[str, Any] = HEADERS | {"datacontenttype": "application/json", "data": json.loads(MESSAGE["value"])}
SENT = {EVENT["id"]: EVENT}


def test_an_sdk_may_write_a_time_in_its_own_way() -> None:
    compare("sdk", SENT, [EVENT])
    compare("sdk", SENT, [EVENT | {"time": EVENT["time"].replace("Z", "+00:00")}])
    compare("sdk", SENT, [EVENT | {"time": EVENT["time"][:-4] + "Z"}])  # milliseconds


@pytest.mark.parametrize(
    "read",
    [
        [],
        [EVENT, EVENT],
        [EVENT | {"id": "another"}],
        [EVENT | {"traceparent": None}],
        [EVENT | {"dataschema": "urn:payments:schema:payment.failed:1"}],
        [EVENT | {"time": "2026-01-31T13:00:00.138000Z"}],
        [EVENT | {"data": EVENT["data"] | {"amount": 5_000_000_000 % 2**32}}],
        [EVENT | {"data": json.dumps(EVENT["data"])}],
    ],
    ids=["nothing", "twice", "another", "no trace", "another schema", "another time", "another amount", "text"],
)
def test_a_difference_is_told(read: list[dict[str, Any]]) -> None:
    with pytest.raises(Wrong):
        compare("sdk", SENT, read)


def test_an_event_needs_its_trace_context_where_both_kinds_of_readers_look() -> None:
    check(EVENT, TRACE)
    for event, plain in ((EVENT, None), ({**EVENT, "traceparent": None}, TRACE)):
        with pytest.raises(Wrong):
            check(event, plain)
