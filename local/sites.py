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
_THIS_MACHINE = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?", re.IGNORECASE)


class OwnPages:
    """Passes requests of programs, of our own pages, and to the API those of the origins that its CORS settings admit."""

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
        # Invoke is no part of the API: on AWS no page calls it.
        admitted = frozenset[str]() if scope["path"].startswith(INVOKE) else self._admitted
        if "*" not in admitted and any(origin not in admitted and origin.lower() not in own for origin in origins):
            return f"The local service takes no requests from pages of {origins[0]}."
        # Without an Origin: a link that somebody follows to our pages is fine. A form, an image, a script or a frame is not.
        is_link = scope["method"] == "GET" and headers.get("sec-fetch-dest") == "document"
        if not origins and headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and not is_link:
            return "The local service takes no requests from pages of other sites."
        return None
