"""A page of another site reaches the local service through the browser of whoever looks at it. It gets nothing done there."""

from __future__ import annotations

import pytest

from tests.local.test_http import INVOKE, Ask, Functions, ask, functions

__all__ = ["ask", "functions"]  # fixtures

EVIL = "https://evil.example"
SHOP = "https://shop.example"
"""The template's CORS settings admit it."""

OWN = "http://127.0.0.1:8001"

FORM = "application/x-www-form-urlencoded"

MOVES = [
    ("POST", INVOKE.format("EchoFunction"), "text/plain"),
    ("POST", INVOKE.format("EchoFunction:live"), "text/plain"),
    ("POST", INVOKE.format("BrokenFunction") + "?Qualifier=direct", FORM),
    ("POST", "/echo", "text/plain"),
    ("POST", "/echo", "multipart/form-data; boundary=x"),
    ("GET", "/payment/1", "text/plain"),
    ("DELETE", "/files/1", "text/plain"),
]


@pytest.mark.parametrize(
    "origin",
    [
        EVIL,
        "null",
        "",
        "http://localhost.evil.example",
        "http://evil.localhost:3000",
        "http://localhost:3000.evil.example",
        "http://localhost@evil.example",
        "http://localhost:",
        "http://localhost:3000/",
        "http://127.0.0.2:3000",
        "http://127.0.0.1:8002, https://evil.example",
        "http://[::2]:3000",
        "file://localhost",
        "chrome-extension://localhost",
        "localhost:3000",
    ],
)
@pytest.mark.parametrize(("method", "target", "media_type"), MOVES)
def test_a_page_of_another_site_moves_nothing(
    method: str, target: str, media_type: str, origin: str, ask: Ask, functions: Functions
) -> None:
    """No-CORS requests of forms and scripts need nobody's permission, and always carry the page's origin when they may write."""
    reply = ask(method, target, b"{}", [("Content-Type", media_type), ("Origin", origin)])
    assert reply.status == 403
    assert "takes no requests from pages of" in reply.json()["message"]
    assert (functions.events, functions.later) == ([], [])


@pytest.mark.parametrize("site", ["cross-site", "same-site", "unheard-of"])
@pytest.mark.parametrize(("method", "target", "media_type"), MOVES)
def test_neither_does_one_that_hides_its_origin(
    method: str, target: str, media_type: str, site: str, ask: Ask, functions: Functions
) -> None:
    for dest in ("empty", "image", "script", "iframe"):
        reply = ask(method, target, b"{}", [("Content-Type", media_type), ("Sec-Fetch-Site", site), ("Sec-Fetch-Dest", dest)])
        assert (reply.status, reply.json()["message"][-6:]) == (403, "sites.")
    assert functions.events == []


@pytest.mark.parametrize(
    "host",
    [
        "evil.example:8001",
        "evil.example",
        "127.0.0.1.evil.example:8001",
        "localhost.evil.example",
        "evil.localhost:8001",
        "127.0.0.1@evil.example",
        "evil.example#127.0.0.1",
        "0.0.0.0:8001",
        "[::ffff:127.0.0.1]:8001",
        "127.1:8001",
        "2130706433:8001",
        "localhost:8001:80",
        "localhost:",
        "localhost ",
        "localhost.",
        "127.0.0.1:8001, evil.example",
        "192.168.1.7:8001",
        "",
    ],
)
@pytest.mark.parametrize("target", [INVOKE.format("echo"), "/payment/1", "/docs", "/openapi.json", "/nowhere"])
def test_a_name_that_its_owner_points_at_this_machine_is_no_name_of_it(
    host: str, target: str, ask: Ask, functions: Functions
) -> None:
    """DNS rebinding: to the browser such a page and our service are one site."""
    method = "POST" if target.startswith("/2015") else "GET"
    reply = ask(method, target, headers=[("Host", host), ("Origin", f"http://{host}"), ("Sec-Fetch-Site", "same-origin")])
    assert reply.status == 403
    assert reply.json()["message"].startswith("The local service answers to localhost and 127.0.0.1 alone")
    assert functions.events == []


@pytest.mark.parametrize("host", ["localhost", "localhost:8001", "LocalHost:8002", "127.0.0.1", "127.0.0.1:65535", "[::1]:8001"])
def test_programs_and_our_own_pages_come_in_by_each_of_its_names(host: str, ask: Ask, functions: Functions) -> None:
    for headers in (
        [],  # curl, an SDK
        [("Origin", f"http://{host}")],
        [("Origin", f"http://{host.lower()}"), ("Sec-Fetch-Site", "same-origin")],
        [("Sec-Fetch-Site", "none"), ("Sec-Fetch-Dest", "document")],
    ):
        for target in (INVOKE.format("echo"), "/echo"):
            assert ask("POST", target, b"{}", [*headers, ("Host", host)]).status == 200
    assert len(functions.events) == 8


def test_the_pages_that_cors_admits_use_the_api_and_not_invoke(ask: Ask, functions: Functions) -> None:
    page = [("Origin", SHOP), ("Sec-Fetch-Site", "cross-site"), ("Content-Type", "application/json")]
    reply = ask("POST", "/echo", b"{}", page)
    assert (reply.status, reply.header("access-control-allow-origin")) == (200, SHOP)
    assert ask("POST", INVOKE.format("echo"), b"{}", page).status == 403
    assert len(functions.events) == 1


LOCAL_PAGES = [
    "http://localhost:3000",
    "https://localhost:5173",
    "http://localhost",
    "http://127.0.0.1:8002",
    "https://127.0.0.1:8001",
    "http://[::1]:4200",
    "https://[::1]",
]


@pytest.mark.parametrize("origin", LOCAL_PAGES)
def test_a_page_that_this_machine_serves_uses_the_api(origin: str, ask: Ask, functions: Functions) -> None:
    """A developer's shop runs on a port of its own, and asks before it sends JSON."""
    page = [("Origin", origin), ("Sec-Fetch-Site", "same-site")]
    wanted = [("Access-Control-Request-Method", "POST"), ("Access-Control-Request-Headers", "content-type")]
    preflight = ask("OPTIONS", "/echo", headers=[*page, *wanted])
    assert (preflight.status, preflight.header("access-control-allow-origin")) == (200, origin)
    reply = ask("POST", "/echo", b"{}", [*page, ("Content-Type", "application/json")])
    assert (reply.status, reply.header("access-control-allow-origin")) == (200, origin)
    assert len(functions.events) == 1


@pytest.mark.parametrize("origin", LOCAL_PAGES)
@pytest.mark.parametrize("media_type", ["text/plain", "application/json", FORM])
def test_invoke_takes_nothing_from_such_a_page_either(origin: str, media_type: str, ask: Ask, functions: Functions) -> None:
    """On AWS no page calls it, and here it could migrate. Only the page that this very port serves is our own."""
    page = [("Origin", origin), ("Sec-Fetch-Site", "same-site")]
    wanted = [("Access-Control-Request-Method", "POST"), ("Access-Control-Request-Headers", "content-type")]
    preflight = ask("OPTIONS", INVOKE.format("EchoFunction"), headers=[*page, *wanted])
    assert (preflight.status, preflight.header("access-control-allow-origin")) == (403, None)
    for name in ("EchoFunction", "EchoFunction:live", "echo?Qualifier=direct"):
        assert ask("POST", INVOKE.format(name), b"{}", [*page, ("Content-Type", media_type)]).status == 403
    assert (functions.events, functions.later) == ([], [])


def test_one_of_two_origins_or_hosts_is_not_enough(ask: Ask, functions: Functions) -> None:
    assert ask("POST", "/echo", b"{}", [("Origin", OWN), ("Origin", EVIL)]).status == 403
    assert ask("POST", "/echo", b"{}", [("Host", "localhost"), ("Host", "evil.example")]).status == 403
    assert functions.events == []


def test_a_link_to_our_pages_works_from_anywhere_but_no_page_frames_them(ask: Ask) -> None:
    followed = [("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "navigate")]
    reply = ask("GET", "/docs", headers=[*followed, ("Sec-Fetch-Dest", "document")])
    assert (reply.status, reply.header("content-security-policy")) == (200, "frame-ancestors 'none'")
    assert ask("GET", "/docs", headers=[*followed, ("Sec-Fetch-Dest", "iframe")]).status == 403
    assert ask("POST", "/echo", headers=[*followed, ("Sec-Fetch-Dest", "document")]).status == 403
