"""Work after the answer, in the same invocation: an internal extension of Lambda keeps the environment from being frozen."""

import os
import threading
from collections.abc import Callable
from typing import Any

from payments.settings import PUBLISHES_AFTER_ANSWER
from payments.telemetry import Handler, logger


class AfterAnswer:
    """Does work at once, or, once a handler was extended, after the answer of its invocation."""

    _waiting: list[Callable[[], None]] | None = None

    def __call__(self, work: Callable[[], None]) -> None:
        if self._waiting is None:
            work()
        else:
            self._waiting.append(work)

    def extended(self, handler: Handler) -> Handler:
        """Return the handler with an extension, when PUBLISH_AFTER_ANSWER asks for one. Call it while the function is imported:
        Lambda takes no extension later."""
        if not PUBLISHES_AFTER_ANSWER or not (api := os.environ.get("AWS_LAMBDA_RUNTIME_API")):
            return handler
        from http.client import HTTPConnection

        connection, extensions = HTTPConnection(api), "/2020-01-01/extension"
        connection.request("POST", f"{extensions}/register", '{"events": ["INVOKE"]}', {"Lambda-Extension-Name": "after-answer"})
        with connection.getresponse() as response:
            response.read()
        if not (id_ := response.headers.get("Lambda-Extension-Identifier")):
            logger.error("Lambda took no extension (%s), so events are published before the answer", response.status)
            return handler
        waiting, answered = list[Callable[[], None]](), threading.Semaphore(0)
        self._waiting = waiting

        def serve() -> None:
            # Lambda begins no invocation, and freezes nothing, until the extension asks for the next event. So no handler runs
            # while this thread uses the database's connection and the producer.
            while True:
                connection.request("GET", f"{extensions}/event/next", headers={"Lambda-Extension-Identifier": id_})
                connection.getresponse().read()
                answered.acquire()
                while waiting:
                    try:
                        waiting.pop(0)()
                    except Exception:
                        logger.exception("work after the answer failed")  # Without this thread no invocation would end any more.

        threading.Thread(target=serve, name="after-answer", daemon=True).start()

        def handle(event: Any, context: Any) -> Any:
            try:
                return handler(event, context)
            finally:  # Also when it raises: otherwise the extension would keep the environment until the time-out.
                answered.release()

        return handle
