"""Which service a command talks to, and as whom."""

import ipaddress
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

LOCAL_URL = "http://127.0.0.1:8001"


class WrongDeployment(Exception):
    """The options do not fit together: the message says which, and what to do."""


@dataclass(frozen=True)
class Deployment:
    """An address and the headers that say who asks; `is_local` when it is on this machine."""

    url: str
    is_local: bool
    headers: dict[str, str] = field(repr=False)


def deployment(url: str | None, token: str | None, owner: str | None, scopes: str | None) -> Deployment:
    """The deployment that the options name, else the one running on this machine. Raises WrongDeployment."""
    url = (url or local_run().get("url") or LOCAL_URL).rstrip("/")
    host = _host(url)
    is_local = _is_loopback(host)
    headers = {}
    if token:
        if url.startswith("http:") and not is_local:
            raise WrongDeployment(f"A token is not sent in clear text: use https:// instead of {url}")
        headers["Authorization"] = f"Bearer {token.strip()}"
    if (owner or scopes) and not is_local:
        raise WrongDeployment(f"--owner and --scopes work on this machine alone; {host} goes by the token: use --token")
    if owner:
        headers["X-Local-Owner"] = owner
    if scopes:
        headers["X-Local-Scopes"] = scopes.replace(",", " ")
    for name, value in headers.items():
        if not (value.isascii() and value.isprintable()):  # and is not shown: it may be the token
            raise WrongDeployment(f"The header {name} can hold only printable ASCII characters")
    return Deployment(url, is_local, headers)


def local_run() -> dict[str, Any]:
    """What the service that runs on this machine wrote about itself; empty when none runs."""
    try:
        facts = json.loads((Path(os.environ.get("DATA_DIR") or ".local") / "run.json").read_text())
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _host(url: str) -> str:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises where it is no number
        given = (parts.username, parts.password, parts.query, parts.fragment)
        if parts.scheme in ("http", "https") and parts.hostname and not any(given):
            return parts.hostname
    except ValueError:
        pass
    raise WrongDeployment("--url must be an address such as https://payments.example.com, without user, password or query")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
