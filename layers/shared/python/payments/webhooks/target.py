"""Where a webhook may go: an https address on the public internet, so that nobody makes us ask our own network for him."""

import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any

Resolve = Callable[[str, int], list[Any]]

# An address as a number has no certificate that counts, and there are many ways to write 127.0.0.1. So the last label begins with
# a letter. Other ports than these would make us a scanner of other people's servers. In Unicode a long s (U+017F) is an s
# without regard to case, and "http" with it would be no https.
FLAGS = re.IGNORECASE | re.ASCII
PUBLIC = re.compile(r"(https)://((?:[a-z0-9_-]{1,63}\.)+[a-z][a-z0-9-]{0,62})(?::(443|8443))?(/[!\"$-~]*)?", FLAGS)
LOCAL = re.compile(r"(http)://(localhost|127\.0\.0\.1)(?::([0-9]{1,4}|[1-5][0-9]{4}))?(/[!\"$-~]*)?", FLAGS)

UNICAST = IPv6Network("2000::/3")
TUNNELS = IPv6Network("2001::/23"), IPv6Network("2002::/16")
"""Addresses in which there is another one: Teredo, 6to4. Those of NAT64 and those of IPv4 in IPv6 are not in UNICAST."""


NOT_PUBLIC = "leads to no public address"
"""Also of a name that is not found: who could tell the two apart would learn which names our network has."""


class TargetRefused(ValueError):
    """A webhook may not go there. The message says why, and does not repeat the address."""


@dataclass(frozen=True, slots=True)
class Target:
    is_tls: bool
    host: str
    port: int
    path: str


def target_of(url: str, is_local: bool = False) -> Target:
    """Return the parts of the URL. `is_local` admits http to this machine too. Raises TargetRefused."""
    parts = PUBLIC.fullmatch(url) or (is_local and LOCAL.fullmatch(url))
    if not parts:
        raise TargetRefused("must be an https address with a host's name, at port 443 or 8443, without user, password and #")
    is_tls = parts[1].lower() == "https"
    return Target(is_tls, parts[2].lower(), int(parts[3] or (443 if is_tls else 80)), parts[4] or "/")


def resolve(host: str, port: int) -> list[Any]:
    """Return what getaddrinfo does. Raises OSError."""
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


def is_public(text: str) -> bool:
    """Return whether the address is one of the public internet: not this machine, its network, its provider's, nor a group."""
    address: IPv4Address | IPv6Address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address) and (address not in UNICAST or any(address in tunnel for tunnel in TUNNELS)):
        return False
    return address.is_global and not address.is_multicast


def addresses_of(target: Target, resolve: Resolve = resolve, admits: Callable[[str], bool] = is_public) -> list[Any]:
    """Return the host's addresses, as getaddrinfo does, each of which `admits` allows. Raises TargetRefused and OSError.

    A name may lead elsewhere at any time. So each connection goes to an address that was checked here, and not to the name.
    """
    found = resolve(target.host, target.port)
    if target.is_tls and not all(admits(address[0]) for *_, address in found):
        raise TargetRefused(NOT_PUBLIC)
    return found
