"""Call the service over HTTP: repeat requests safely, and turn failures into problem documents with exit codes."""

import ssl
import time
import uuid
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import httpx2

from payments_cli import __version__
from payments_cli.deployment import Deployment
from payments_cli.errors import Exit, Failed

PAYMENTS, WEBHOOKS = "/api/v1/payments", "/api/v1/webhooks"
# API Gateway answers within 30 s, if need be with its own 503. Connecting takes a round trip or two.
TIMEOUT = httpx2.Timeout(35, connect=5)
RETRY_DELAYS_S = (0.5, 1, 2, 4)  # they cover the first seconds of a database failover, and a person can wait for them
MAX_RETRY_AFTER_S = 15  # if the service demands a longer pause, the person decides when to try again
PAGE_SIZE = 100
# These refuse a request before anybody looks for its Idempotency-Key, so they do not say what became of an earlier try.
NOT_ABOUT_THE_KEY = ("unauthenticated", "forbidden", "unexpected_answer")


class Api:
    def __init__(self, deployment: Deployment, *, retry: bool, say: Callable[[str], object]) -> None:
        """`say` shows a line to the person who waits. Raises many kinds of errors if the address or the environment is wrong."""
        self._url = deployment.url
        self._delays_s = RETRY_DELAYS_S if retry else ()
        self._say = say
        httpx2.URL(deployment.url)  # raises now, and not when a command may have been sent
        self._client = httpx2.Client(
            headers={"User-Agent": f"payments-cli/{__version__}", **deployment.headers},
            timeout=TIMEOUT,
            # The environment's proxy is for other machines, so we reach a service on this machine without it.
            trust_env=not deployment.is_local,
            # We read the authorities' certificates only for https, because that takes as long as all the rest.
            verify=deployment.url.startswith("https:") and _tls(deployment),
        )

    def command(self, name: str, body: dict[str, Any], idempotency_key: str) -> tuple[dict[str, Any], bool]:
        """Send a command. Return the answer, and whether the outcome is known. Raises Failed."""
        headers = {"Idempotency-Key": idempotency_key}
        response = self._send("POST", f"{PAYMENTS}/{name}", json=body, headers=headers)
        return _body(response), response.status_code != HTTPStatus.ACCEPTED

    def payment(self, text: str, *, is_order: bool = False) -> dict[str, Any]:
        """Return the payment that has this payment id, transaction id (txn_...) or else order id. Raises Failed."""
        return _body(self._send("GET", f"{PAYMENTS}/{_kind(text, is_order=is_order)}/{quote(text, safe='')}"), "payment_id")

    def sync(self, text: str, *, is_order: bool = False) -> tuple[dict[str, Any], bool]:
        """Have the service ask the gateway. Return the payment, and whether its outcome is known. Raises Failed."""
        response = self._send("POST", f"{PAYMENTS}/sync", json={f"{_kind(text, is_order=is_order)}_id": text})
        return _body(response, "payment_id"), response.status_code != HTTPStatus.ACCEPTED

    def refund(self, refund_id: str) -> dict[str, Any]:
        return _body(self._send("GET", f"{PAYMENTS}/refund/{quote(refund_id, safe='')}"), "refund_id")

    def all_of(self, payment_id: str, what: str) -> list[dict[str, Any]]:
        """Return the `refunds` or the `history` (status changes) of the payment, oldest first, page by page. Raises Failed."""
        found: list[dict[str, Any]] = []
        cursor = None
        while True:
            params = {"limit": str(PAGE_SIZE)} | ({"cursor": cursor} if cursor else {})
            page = _body(self._send("GET", f"{PAYMENTS}/payment/{payment_id}/{what}", params=params), "data")
            found += page["data"]
            cursor = page.get("next_cursor")  # a service of version 0.1.0 has one page
            if not cursor:
                return found

    def pages(self, filters: dict[str, str], limit: int | None) -> Iterator[dict[str, Any]]:
        """Yield pages with `data` and `has_more`: payments, newest first, at most `limit` in all. Raises Failed.

        A page may be empty with others after it.
        """
        cursor = None
        while True:
            size = PAGE_SIZE if limit is None else min(limit, PAGE_SIZE)
            params = filters | {"limit": str(size)} | ({"cursor": cursor} if cursor else {})
            page = _body(self._send("GET", PAYMENTS, params=params), "data", "has_more", "next_cursor")
            yield page
            limit = None if limit is None else limit - len(page["data"])
            cursor = page["next_cursor"]
            if not (page["has_more"] and cursor) or (limit is not None and limit <= 0):
                return

    def webhooks(self) -> list[dict[str, Any]]:
        """Return the caller's webhooks, oldest first. Raises Failed."""
        found: list[dict[str, Any]] = _body(self._send("GET", WEBHOOKS), "data")["data"]
        return found

    def webhook(self, webhook_id: str) -> dict[str, Any]:
        return _body(self._send("GET", _webhook(webhook_id)), "webhook_id")

    def add_webhook(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return the new webhook with its secret. Raises Failed."""
        return _body(self._send("POST", WEBHOOKS, is_safe=False, json=body), "webhook_id", "secret")

    def rotate_webhook(self, webhook_id: str) -> dict[str, Any]:
        """Return the webhook with its new secret. Raises Failed."""
        return _body(self._send("POST", f"{_webhook(webhook_id)}/rotate", is_safe=False), "webhook_id", "secret")

    def enable_webhook(self, webhook_id: str) -> dict[str, Any]:
        return _body(self._send("POST", f"{_webhook(webhook_id)}/enable"), "webhook_id")

    def remove_webhook(self, webhook_id: str) -> None:
        self._send("DELETE", _webhook(webhook_id))

    def redeliver(self, webhook_id: str, body: dict[str, Any]) -> dict[str, Any]:
        """Return `events`, how many are sent again, and `resume_at`, from where to go on or None. Raises Failed."""
        return _body(self._send("POST", f"{_webhook(webhook_id)}/redeliver", json=body), "events", "resume_at")

    def _send(self, method: str, path: str, *, is_safe: bool = True, **request: Any) -> httpx2.Response:
        """Send a request until it succeeds, and return the answer. Every try has the same Idempotency-Key. Raises Failed.

        Unless it `is_safe`, a request that may have arrived is not sent again: a second new secret would end the first one.
        """
        arrived = False  # whether the service may have received the request
        for delay_s in (*self._delays_s, None):
            wait_s = delay_s
            try:
                response = self._client.request(method, self._url + path, **request)
            except httpx2.RequestError as error:
                arrived = arrived or not isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout)
                failure = _no_answer(self._url, error, arrived=arrived)
            else:
                was_lost, arrived = arrived, True
                if response.is_success:
                    return response
                failure = _failure(response)
                if was_lost and method == "DELETE" and failure.problem["code"] == "webhook_not_found":
                    return response  # an earlier try has done it
                is_about_this_try = failure.exit_code == Exit.REFUSED and failure.problem["code"] in NOT_ABOUT_THE_KEY
                if was_lost and is_about_this_try and method == "POST":
                    failure.exit_code = Exit.UNKNOWN
                if not _may_pass(failure):
                    raise failure
                wait_s = delay_s and max(delay_s, _retry_after_s(response))
            if wait_s is None or wait_s > MAX_RETRY_AFTER_S or (arrived and not is_safe):
                raise failure
            self._say(f"{failure.problem['title']}. Trying again in {wait_s:g} s.")
            time.sleep(wait_s)
        raise AssertionError("the last try returns or raises")


def _kind(text: str, *, is_order: bool) -> str:
    return "order" if is_order else "transaction" if text.startswith("txn_") else "payment" if _is_uuid(text) else "order"


def _webhook(webhook_id: str) -> str:
    return f"{WEBHOOKS}/{quote(webhook_id, safe='')}"


def _tls(deployment: Deployment) -> ssl.SSLContext:
    """Trust the environment's authorities, and show the caller's certificate to a service that asks for one."""
    context = httpx2.create_ssl_context()
    if deployment.certificate:
        context.load_cert_chain(*deployment.certificate)
    return context


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True


def _body(response: httpx2.Response, *members: str) -> dict[str, Any]:
    body = _object(response)
    if body is None or not body.keys() >= set(members):
        raise Failed(_stranger(response), Exit.UNAVAILABLE)
    return body


def _object(response: httpx2.Response) -> dict[str, Any] | None:
    """Return the JSON object of the answer, or None if it holds none. NaN and Infinity, which are no JSON, become null."""
    try:
        body = response.json(parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def _failure(response: httpx2.Response) -> Failed:
    status = response.status_code
    body = _object(response)
    problem = body if body and {"title", "detail", "code"} <= body.keys() else _stranger(response)
    if problem["code"] == "idempotency_key_in_use":
        return Failed(problem, Exit.UNKNOWN)  # the first request with the key is still running
    if status == HTTPStatus.PAYMENT_REQUIRED:
        return Failed(problem, Exit.DECLINED)
    refused = 400 <= status < 500 and status not in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)
    return Failed(problem, Exit.REFUSED if refused else Exit.UNAVAILABLE)


def _stranger(response: httpx2.Response) -> dict[str, Any]:
    """Return a problem document for an answer of another program: API Gateway, a proxy, or a wrong address."""
    status = response.status_code
    details = {
        401: "The token is missing, expired or not valid for this service. Use --bearer-token or PAYMENTS_BEARER_TOKEN.",
        403: "The token does not allow this.",
        404: f"There is no such route at {response.url.copy_with(query=None)}. Is --url the address of a payment service?",
        429: "Too many requests at once.",
    }
    if response.url.path.startswith(WEBHOOKS):
        details[404] = "This service sends no webhooks: they are off in its deployment, or --url is another program's address."
    was_late = status >= 500 or status == HTTPStatus.REQUEST_TIMEOUT
    other = "The service did not answer in time." if was_late else f"{response.url.host} is not a payment service."
    problem = {
        "title": response.reason_phrase or f"Status {status}",
        "status": status,
        "detail": details.get(status, other),
        "code": "unexpected_answer",
    }
    request_id = response.headers.get("apigw-requestid")
    return problem | ({"request_id": request_id} if request_id else {})


def _no_answer(url: str, error: httpx2.RequestError, *, arrived: bool) -> Failed:
    title, code = ("The service did not answer", "no_answer") if arrived else ("The service cannot be reached", "unreachable")
    return Failed({"title": title, "detail": f"{url}: {str(error) or type(error).__name__}", "code": code}, Exit.UNAVAILABLE)


def _may_pass(failure: Failed) -> bool:
    """Return whether the same request may succeed in a moment. Not after a 500: somebody must look at that first."""
    return failure.problem.get("status") in (408, 429, 502, 503, 504) or failure.problem["code"] == "idempotency_key_in_use"


def _retry_after_s(response: httpx2.Response) -> int:
    value = response.headers.get("retry-after", "")
    return int(value[:9]) if value.isascii() and value.isdigit() else 0
