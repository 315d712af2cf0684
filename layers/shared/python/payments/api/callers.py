"""The caller and its owner, from API Gateway's authorizer or the function's own configuration; never from a body or a header.

A client that may invoke a function directly could send an event that looks like API Gateway's, with claims of its choice. Give
that permission to the order service's role alone (SECURITY.md).
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from payments.domain.errors import Forbidden, Unauthenticated
from payments.domain.scopes import Scope

ALL_BUT_ADMIN = frozenset[str](set(Scope) - {Scope.ADMIN})


@dataclass(frozen=True, slots=True)
class Caller:
    """`owner` is the owner of the payments that the caller makes and sees."""

    owner: str
    scopes: frozenset[str]

    @property
    def sees_all(self) -> bool:
        return Scope.ADMIN in self.scopes

    def require(self, scope: Scope) -> None:
        """Raise Forbidden without the scope. The admin scope reads all payments and moves no money."""
        if scope not in self.scopes and not (scope is Scope.READ and self.sees_all):
            raise Forbidden(f"The token needs the scope {scope.value}.")


def caller_of(event: Mapping[str, Any]) -> Caller:
    """Return the caller that the authorizer of an HTTP API event (payload 2.0) names. Raises Unauthenticated without one.

    With a JWT authorizer the owner is the claim `sub`: the client of a client-credentials token, or a person. With an IAM
    authorizer the owner is the role (or user), for all its sessions alike. IAM's policy has decided which routes the role may
    call, so it has every scope but the admin one.
    """
    authorizer = event.get("requestContext", {}).get("authorizer") or {}
    if not authorizer and os.environ.get("AWS_SAM_LOCAL") == "true":
        return Caller("local", ALL_BUT_ADMIN)  # `sam local` sets this variable, and has no JWT authorizer.
    if iam := authorizer.get("iam"):
        # arn:aws:sts::123456789012:assumed-role/order-service/session -> iam/123456789012/assumed-role/order-service
        *_, account, principal = ["", "", *str(iam.get("userArn") or "").split(":", 5)]
        if not account or not principal:
            raise Unauthenticated("The IAM authorizer names no principal.")
        if principal.startswith("assumed-role/"):
            principal = principal.rpartition("/")[0]
        return Caller(f"iam/{account}/{principal}", ALL_BUT_ADMIN)
    claims = (authorizer.get("jwt") or {}).get("claims") or {}
    owner = claims.get("sub")
    if not isinstance(owner, str) or not owner:
        raise Unauthenticated("Send a bearer token that names a subject.")
    # API Gateway passes `scope` on as issued: words divided by spaces, or (from `scp` lists) in square brackets.
    words = str(claims.get("scope") or claims.get("scp") or "").strip("[]").replace(",", " ").split()
    return Caller(owner, frozenset(words))


def is_http(event: Any) -> bool:
    """Return whether API Gateway sent the event. Only its events have a request context with an HTTP request."""
    context = event.get("requestContext") if isinstance(event, dict) else None
    return isinstance(context, dict) and isinstance(context.get("http"), dict)
