"""Scheduled: send webhooks their events, many side by side, each payment's in order."""

import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from payments.commands.service import Deadline, Service
from payments.domain.events import structured
from payments.store import webhooks
from payments.store.webhooks import Delivery
from payments.webhooks.post import TIMEOUT_S
from payments.webhooks.signature import signed

logger = logging.getLogger(__name__)

Send = Callable[[str, Mapping[str, str], bytes], int | str]
"""Sends headers and body to a URL, and returns the answer's status, or why there is none."""

SIDE_BY_SIDE, OF_ONE_OWNER, OF_ONE_WEBHOOK = 64, 32, 8
"""So many at once, so many to the webhooks of an owner and so many to one. An owner may have ten that hang, and leaves the others
half of the places. It takes a second owner to take these."""

REFILL = SIDE_BY_SIDE // 4
"""A claim waits for so many free places, because a claim of one costs as much as one of many."""

RUN_RESERVE_S = TIMEOUT_S + 5.0
"""A run with less time left sends no further ones."""

LAST_S = 2.0
"""With less time left a run waits for nobody."""

LEASE_S = 3 * TIMEOUT_S
"""Longer than a sending and the wait for its thread and for its note, so that no two send one at a time."""

POLL_S = 1.0
"""So often a run looks for new events, while there is a webhook that wants them."""

GONE = 410
"""The receiver wants no more."""


@dataclass(slots=True)
class Couriered:
    """One run's attempts: `delivered` arrived and `failed` did not, of which `given_up` are not tried again. It disabled
    `disabled` webhooks."""

    delivered: int = 0
    failed: int = 0
    given_up: int = 0
    disabled: int = 0


def courier(service: Service, send: Send, deadline: Deadline, poll_s: float | None = POLL_S) -> Couriered:
    """Send what is due until time is short. With `poll_s` None, or without an enabled webhook, only until nothing is due."""
    done, sending, threads = Couriered(), dict[Future[int | str], Delivery](), ThreadPoolExecutor(SIDE_BY_SIDE)
    try:
        while deadline.remaining_s() > LAST_S:  # The resolver alone takes longer. What it holds is not sent after its time.
            if deadline.remaining_s() > RUN_RESERVE_S and len(sending) <= SIDE_BY_SIDE - REFILL:
                claimed = webhooks.claim(service.db, SIDE_BY_SIDE - len(sending), OF_ONE_WEBHOOK, OF_ONE_OWNER, LEASE_S)
                sending |= {threads.submit(_attempt, one, send): one for one in claimed}
            if sending:
                ended = wait(sending, poll_s or POLL_S, FIRST_COMPLETED).done
                _note([(sending.pop(each), each.result()) for each in ended], service, done)
            elif poll_s is None or deadline.remaining_s() <= RUN_RESERVE_S or not webhooks.any_enabled(service.db):
                break
            else:
                time.sleep(poll_s)
        webhooks.prune(service.db)
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
    return done


def _attempt(one: Delivery, send: Send) -> int | str:
    if one.event is None:
        return "the event is kept no longer"
    secrets, body = [one.secret, *filter(None, [one.previous_secret])], structured(one.event)
    try:
        return send(one.url, signed(str(one.event.event_id), int(time.time()), body, secrets), body)
    except Exception as error:  # The others must not wait for it. Its text may quote the address or what the receiver said.
        logger.error("a sending failed with %s", type(error).__name__, extra={"webhook_id": str(one.webhook_id)})
        return "it could not be sent"


def _note(ended: list[tuple[Delivery, int | str]], service: Service, done: Couriered) -> None:
    """Write down how the deliveries went. The address is left out of the log, because it may hold a key of the receiver's."""
    if arrived := [one for one, answer in ended if _is_success(answer)]:
        webhooks.delivered(service.db, arrived)
        done.delivered += len(arrived)
    for one, answer in ended:
        if _is_success(answer):
            continue
        error = f"it answered {answer}" if isinstance(answer, int) else answer
        given_up, disabled = webhooks.failed(service.db, one, error, is_gone=answer == GONE)
        done.failed, done.given_up, done.disabled = done.failed + 1, done.given_up + given_up, done.disabled + disabled
        ids = {"webhook_id": str(one.webhook_id), "payment_id": str(one.payment_id), "attempt": one.attempt}
        logger.info("not delivered: %s", error, extra=ids | {"given_up": given_up, "disabled": disabled})


def _is_success(answer: int | str) -> bool:
    return isinstance(answer, int) and 200 <= answer < 300
