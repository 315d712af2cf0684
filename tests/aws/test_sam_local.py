"""`sam local` has no JWT authorizer, so a caller without a token is accepted there and nowhere else."""

from __future__ import annotations

from typing import Any

import pytest

from payments.api.callers import caller_of
from payments.domain.errors import Unauthenticated
from payments.domain.scopes import Scope

WITHOUT_A_TOKEN = {"requestContext": {"http": {"method": "GET"}}}
WITH_A_TOKEN = {"requestContext": {"authorizer": {"jwt": {"claims": {"sub": "shop", "scope": "payments/read"}}}}}
WITH_AN_EMPTY_ONE: dict[str, Any] = {"requestContext": {"authorizer": {"jwt": {"claims": {}}}}}


def test_under_sam_local_a_caller_without_a_token_is_local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SAM_LOCAL", "true")
    caller = caller_of(WITHOUT_A_TOKEN)
    assert caller.owner == "local"
    assert caller.scopes == frozenset[str]({Scope.WRITE, Scope.REFUND, Scope.READ, Scope.WEBHOOKS})
    assert caller_of(WITH_A_TOKEN).owner == "shop"
    with pytest.raises(Unauthenticated):
        caller_of(WITH_AN_EMPTY_ONE)


@pytest.mark.parametrize("value", [None, "", "false", "1"])
def test_elsewhere_it_is_nobody(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_SAM_LOCAL", raising=False)
    if value is not None:
        monkeypatch.setenv("AWS_SAM_LOCAL", value)
    with pytest.raises(Unauthenticated):
        caller_of(WITHOUT_A_TOKEN)
