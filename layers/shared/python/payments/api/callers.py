"""The caller and its owner, from API Gateway's authorizer or the function's own configuration; never from a body or a header.

Owners are stored without saying where they came from, so the three kinds must not meet: IAM's begin with `iam/`, the configured
one is none of these, and a token whose subject is one of the others is refused (docs/adr/025).
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from payments import telemetry
from payments.direct_owner import IAM, direct_owner_in
from payments.domain.errors import Forbidden, Unauthenticated
from payments.domain.scopes import Scope

API_GATEWAYS_ALIAS = "live"
"""The AutoPublishAlias of template.yaml. API Gateway invokes it, and nobody else may."""

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
    """Return the caller that the authorizer of an HTTP API event (payload 2.0) names.

    Raises Unauthenticated without one, and Forbidden for a token whose subject is the name of another kind of caller.

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
        return Caller(f"{IAM}{account}/{principal}", ALL_BUT_ADMIN)
    claims = (authorizer.get("jwt") or {}).get("claims") or {}
    owner = claims.get("sub")
    if not isinstance(owner, str) or not owner:
        raise Unauthenticated("Send a bearer token that names a subject.")
    direct_owner, is_subject = direct_owner_in()
    # PostgreSQL compares owners as they are, so we do: no case, normal form or white space makes two of them one.
    if owner.startswith(IAM) or (owner == direct_owner and not is_subject):
        telemetry.logger.warning("a token's subject is the owner of direct invocations or of an IAM principal")
        raise Forbidden("The token's subject is reserved: its payments are another kind of caller's.")
    # API Gateway passes `scope` on as issued: words divided by spaces, or (from `scp` lists) in square brackets.
    words = str(claims.get("scope") or claims.get("scp") or "").strip("[]").replace(",", " ").split()
    return Caller(owner, frozenset(words))


def is_http(event: Any, context: Any) -> bool:
    """Return whether API Gateway sent the event. Whoever may invoke the function could write one like it, with any claims.

    So the alias decides, which Lambda writes into the context. Raises Forbidden for another event through API Gateway's alias.
    """
    request = event.get("requestContext") if isinstance(event, dict) else None
    looks_like_http = isinstance(request, dict) and isinstance(request.get("http"), dict)
    # arn:aws:lambda:eu-central-1:123456789012:function:NAME, and :ALIAS or :VERSION if the caller named one
    is_gateways = context.invoked_function_arn.split(":")[7:] == [API_GATEWAYS_ALIAS]
    if is_gateways and not looks_like_http:
        raise Forbidden(f"The alias {API_GATEWAYS_ALIAS} is API Gateway's. Invoke the alias direct.")
    return looks_like_http and (is_gateways or os.environ.get("AWS_SAM_LOCAL") == "true")  # `sam local` has no aliases.
