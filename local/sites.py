"""Keeps the pages of other sites out. A browser on this machine reaches the local ports, whatever page it shows.

Without this, any page could post a form or plain text to Invoke, which asks for no media type, and so move simulated money or
migrate; and a name that its owner points at 127.0.0.1 (DNS rebinding) could read the answers too. Programs send no Origin and no
Sec-Fetch-Site, and browsers let no page change either.
"""

import re
from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

INVOKE = "/2015-03-31/"
GATEWAY_PAGES = "/simulated-gateway"
_NAMES = r"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?"
_THIS_MACHINE = re.compile(_NAMES, re.IGNORECASE)

LOCAL_ORIGIN = rf"https?://{_NAMES}"
"""Origins of the pages that this machine serves, such as a developer's shop on a port of its own."""

_ORIGIN = re.compile(r"\*|https?://([a-z0-9.-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?")


def allowed_origins(text: str) -> str:
    """Return the setting CORS_ALLOW_ORIGINS as it is. Raises ValueError if a part of it would match no page."""
    for origin in text.split(","):
        if not _ORIGIN.fullmatch(origin.strip()):
            example = "https://shop.test or http://192.168.1.7:3000"
            raise ValueError(f"must be origins such as {example} (no path, small letters), separated by commas, not {origin!r}")
    return text


class OwnPages:
    """Passes requests of programs, of our own pages, and to the API those of this machine's and of the admitted origins."""

    def __init__(self, app: ASGIApp, admitted: Collection[str]) -> None:
        self._app = app
        self._admitted = frozenset(admitted)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if reason := self._refusal(scope):
            # Both forms of an error: that of API Gateway and that of the Lambda API.
            answer = JSONResponse({"message": reason, "Message": reason, "Type": "User"}, 403)
            answer.headers["x-amzn-errortype"] = "AccessDeniedException"
            await answer(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _refusal(self, scope: Scope) -> str | None:
        headers = Headers(scope=scope)
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        if not all(map(_THIS_MACHINE.fullmatch, hosts)):
            return f"The local service answers to localhost and 127.0.0.1 alone, not to the name {hosts[0]}."
        own = {f"http://{host}".lower() for host in hosts}
        # Neither is a part of the API: on AWS no page calls them, so here none does but our own.
        is_api = not scope["path"].startswith((INVOKE, GATEWAY_PAGES))
        for origin in origins:
            if origin.lower() not in own and not (is_api and self._admits(origin)):
                return f"The local service takes no requests from pages of {origin}."
        # Without an Origin: a link that somebody follows to our pages is fine. A form, an image, a script or a frame is not.
        is_link = scope["method"] == "GET" and headers.get("sec-fetch-dest") == "document"
        if not origins and headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and not is_link:
            return "The local service takes no requests from pages of other sites."
        return None

    def _admits(self, origin: str) -> bool:
        return bool(self._admitted & {"*", origin} or re.fullmatch(LOCAL_ORIGIN, origin))
