"""Who is asking, as API Gateway's authorizer or the function's own configuration says it: never a body, never a header.

Whoever may invoke a function directly could send it an event that looks like API Gateway's, with any claims in it: that
permission is trust in full, and is given to the order service's role alone (SECURITY.md).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from payments.domain.errors import Forbidden, Unauthenticated


class Scope(StrEnum):
    WRITE = "payments/write"
    REFUND = "payments/refund"
    READ = "payments/read"
    ADMIN = "payments/admin"


ALL_BUT_ADMIN = frozenset[str](set(Scope) - {Scope.ADMIN})


@dataclass(frozen=True, slots=True)
class Caller:
    """`owner` is whose payments they are."""

    owner: str
    scopes: frozenset[str]

    @property
    def sees_all(self) -> bool:
        return Scope.ADMIN in self.scopes

    def require(self, scope: Scope) -> None:
        """Raise Forbidden without the scope. The admin scope reads everything and moves nothing."""
        if scope not in self.scopes and not (scope is Scope.READ and self.sees_all):
            raise Forbidden(f"The token needs the scope {scope.value}.")


def caller_of(event: Mapping[str, Any]) -> Caller:
    """The caller of an HTTP API event (payload 2.0), as its authorizer names it. Raises Unauthenticated when none does.

    With a JWT authorizer the owner is the claim `sub`: for client-credentials tokens that is the client, for people the person.
    With an IAM authorizer it is the role (or user), whatever its session is called; its policy has decided
    which routes it may call, so it has every scope but the admin one.
    """
    authorizer = event.get("requestContext", {}).get("authorizer") or {}
    if not authorizer and os.environ.get("AWS_SAM_LOCAL") == "true":
        return Caller("local", ALL_BUT_ADMIN)  # `sam local` sets that variable and cannot run a JWT authorizer
    if iam := authorizer.get("iam"):
        # arn:aws:sts::123456789012:assumed-role/order-service/session -> iam/123456789012/assumed-role/order-service
        *_, account, principal = ["", "", *str(iam.get("userArn") or "").split(":", 5)]
        if not account or not principal:
            raise Unauthenticated("The IAM authorizer names nobody.")
        if principal.startswith("assumed-role/"):
            principal = principal.rpartition("/")[0]
        return Caller(f"iam/{account}/{principal}", ALL_BUT_ADMIN)
    claims = (authorizer.get("jwt") or {}).get("claims") or {}
    owner = claims.get("sub")
    if not isinstance(owner, str) or not owner:
        raise Unauthenticated("Send a bearer token that names a subject.")
    # API Gateway hands over `scope` as issued: words divided by spaces, or (from `scp` lists) in square brackets.
    words = str(claims.get("scope") or claims.get("scp") or "").strip("[]").replace(",", " ").split()
    return Caller(owner, frozenset(words))
