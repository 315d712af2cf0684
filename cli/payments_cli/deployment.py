"""Find the service for a command, and what identifies the caller."""

import ipaddress
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

LOCAL_URL = "http://127.0.0.1:8001"


class WrongDeployment(Exception):
    """The options do not fit together. The message says which ones, and what to do."""


@dataclass(frozen=True)
class Deployment:
    """A service's address, and what identifies the caller: headers, and the files of a certificate and its key.

    `is_local` says that the service is on this machine. Without a second file the first one holds the key too.
    """

    url: str
    is_local: bool
    headers: dict[str, str] = field(repr=False)
    certificate: tuple[Path, Path | None] | None = None


def deployment(
    url: str | None,
    token: str | None,
    owner: str | None,
    scopes: str | None,
    certificate: Path | None = None,
    key: Path | None = None,
) -> Deployment:
    """Return the deployment that the options name, or else the one on this machine. Raises WrongDeployment."""
    url = (url or local_run().get("url") or LOCAL_URL).rstrip("/")
    host = _host(url)
    is_local = _is_loopback(host)
    headers = {}
    if token:
        if url.startswith("http:") and not is_local:
            raise WrongDeployment(f"This would send the token in clear text. Use https:// instead of {url}")
        headers["Authorization"] = f"Bearer {token.strip()}"
    if key and not certificate:
        raise WrongDeployment("--client-key needs --client-certificate")
    if certificate and url.startswith("http:") and not is_local:
        raise WrongDeployment(f"A certificate is shown over TLS alone. Use https:// instead of {url}")
    if (owner or scopes) and not is_local:
        raise WrongDeployment(f"--owner and --scopes work only for a service on this machine. For {host}, use --bearer-token")
    if owner:
        headers["X-Local-Owner"] = owner
    if scopes:
        headers["X-Local-Scopes"] = scopes.replace(",", " ")
    for name, value in headers.items():
        if not (value.isascii() and value.isprintable()):  # we do not show the value, because it may be the token
            raise WrongDeployment(f"The header {name} can hold only printable ASCII characters")
    return Deployment(url, is_local, headers, (certificate, key) if certificate else None)


def local_run() -> dict[str, str]:
    """Return the texts that the service on this machine wrote to run.json; {} if none runs."""
    try:
        facts = json.loads((Path(os.environ.get("DATA_DIR") or ".local") / "run.json").read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return {name: fact for name, fact in facts.items() if isinstance(fact, str)} if isinstance(facts, dict) else {}


def _host(url: str) -> str:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises ValueError if it is not a number
        given = (parts.username, parts.password, parts.query, parts.fragment)
        (parts.hostname or "").encode("idna")  # raises UnicodeError, which is a ValueError, if no name server could know it
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
