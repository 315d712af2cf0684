"""Who is asking, as API Gateway's authorizer or the function's own configuration says it: never a body, never a header."""

from __future__ import annotations

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
    """The caller of an HTTP API event (payload 2.0), from its JWT authorizer's claims. Raises Unauthenticated without them.

    The owner is the claim `sub`: for client-credentials tokens that is the client, for people the person.
    """
    jwt = (event.get("requestContext", {}).get("authorizer") or {}).get("jwt") or {}
    claims = jwt.get("claims") or {}
    owner = claims.get("sub")
    if not isinstance(owner, str) or not owner:
        raise Unauthenticated("Send a bearer token that names a subject.")
    # API Gateway hands over `scope` as issued: words divided by spaces, or (from `scp` lists) in square brackets.
    words = str(claims.get("scope") or claims.get("scp") or "").strip("[]").replace(",", " ").split()
    return Caller(owner, frozenset(words))
