"""Signatures as Standard Webhooks has them (https://www.standardwebhooks.com): HMAC-SHA256 of id, time and body."""

import base64
import hashlib
import hmac
import os
from collections.abc import Sequence

PREFIX = "whsec_"


def new_secret() -> str:
    return PREFIX + base64.b64encode(os.urandom(32)).decode()


def signed(id_: str, at_s: int, body: bytes, secrets: Sequence[str]) -> dict[str, str]:
    """Return the headers. While a secret is changed there are two, and a signature of each: the receiver needs to know one."""
    content = b"%s.%d.%s" % (id_.encode(), at_s, body)
    macs = [hmac.digest(base64.b64decode(secret.removeprefix(PREFIX)), content, hashlib.sha256) for secret in secrets]
    signatures = " ".join(f"v1,{base64.b64encode(mac).decode()}" for mac in macs)
    return {"webhook-id": id_, "webhook-timestamp": str(at_s), "webhook-signature": signatures}
