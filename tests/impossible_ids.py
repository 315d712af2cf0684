"""Ids that no payment has or can have, for everything that takes an id."""

from __future__ import annotations

IMPOSSIBLE_IDS = {
    "a word": "nobody",
    "no UUID": "not-a-uuid",
    "as long as a UUID": "not-a-uuid-but-as-long-as-one-is-abc",
    "nearly a UUID": "019c139e-4c00-7a41-9b0f-2d6c31e0a7f",
    "a UUID and more": "019c139e-4c00-7a41-9b0f-2d6c31e0a7f1x",
    "nobody's UUID": "019c139e-4c00-7a41-9b0f-2d6c31e0a7f1",
    "the nil UUID": "00000000-0000-0000-0000-000000000000",
    "NUL": "\0",
    "NUL inside": "a\0b",
    "NUL at the end": "txn_1\0",
    "control characters": "\x01\x1f\x7f\x85",
    "only a line break": "\n",
    "line break": "a\n",
    "10 KB": "x" * 10_240,
    "emoji": "😀",
    "10 KB of emoji": "😀" * 2560,
    "lone surrogate": "\ud800",
    "wide digits": "\uff19\uff19\uff19",
    "dots": "..",
    "white space": " ",
    "SQL": "' OR 1=1 --",
    "per cent": "%",
    "per cent encoded": "%00%ff%",
    "braces": "{payment_id}",
    "question mark": "?a=b#c",
    "a number": "9" * 300,
}
