"""What a caller's token may allow."""

from enum import StrEnum


class Scope(StrEnum):
    WRITE = "payments/write"
    REFUND = "payments/refund"
    READ = "payments/read"
    WEBHOOKS = "payments/webhooks"
    ADMIN = "payments/admin"
