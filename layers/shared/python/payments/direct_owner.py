"""Whose payments come by direct invocation, and which names are no other owner's."""

import os
from collections.abc import Mapping

from payments.settings_error import SettingsError

IAM = "iam/"
"""The owners of IAM's principals begin with this, and no others."""


def direct_owner_in(environment: Mapping[str, str] = os.environ) -> tuple[str, bool]:
    """Return the owner of direct invocations, as stored, and whether it is also the subject of a token (`jwt/SUBJECT`).

    Raises SettingsError.
    """
    named = environment.get("DIRECT_OWNER") or "order-service"
    owner = named.removeprefix("jwt/")
    if not owner or owner.startswith(IAM):
        raise SettingsError(f"DIRECT_OWNER must be a name that does not begin with {IAM}, or jwt/ and the subject of a token")
    return owner, owner != named
