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

Answer = tuple[int | str, float, bool]
"""What `Send` returned, after how many seconds, and whether it is noted once more."""

SIDE_BY_SIDE, OF_SLOW_ONES, OF_ONE_OWNER, OF_ONE_WEBHOOK = 128, 32, 16, 8
"""A run sends at most 128 deliveries at once: at most 32 of them to slow webhooks, 16 to the quick webhooks of one owner and 16
to his slow ones, and 8 to one webhook. However many are slow, three quarters of the places are for those that are not."""

REFILL = SIDE_BY_SIDE // 4
"""A claim waits until 32 places are free, because a claim of one costs as much as a claim of many. It waits no longer when no
place has become free for a while."""

RUN_RESERVE_S = TIMEOUT_S + 5.0
"""A run with less time left sends no further ones."""

LAST_S = 2.0
"""With less time left a run waits for nobody."""

LEASE_S = 3 * TIMEOUT_S
"""Longer than a sending and the wait for its thread and for its note, so that no two send one at a time."""

AGAIN_S = 0.2
"""Another courier's claim holds a delivery for less than this. So an end that could not be noted is noted once more after this
time. A delivery that is held then, too, keeps its lease, and is sent again."""

POLL_S = 1.0
"""While there is a webhook, a run looks for new events each second."""

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


def courier(
    service: Service, send: Send, deadline: Deadline, poll_s: float | None = POLL_S, clock: Callable[[], float] = time.monotonic
) -> Couriered:
    """Send what is due until time is short. With `poll_s` None, or without an enabled webhook, only until nothing is due."""
    done, threads = Couriered(), ThreadPoolExecutor(SIDE_BY_SIDE)
    sending, ended = dict[Future[Answer], Delivery](), set[Future[Answer]]()
    try:
        while deadline.remaining_s() > LAST_S:  # The resolver alone takes longer. What it holds is not sent after its time.
            free, more = SIDE_BY_SIDE - len(sending), False
            if deadline.remaining_s() > RUN_RESERVE_S and free >= (REFILL if ended else 1):
                slow = OF_SLOW_ONES - sum(one.is_slow for one in sending.values())
                claimed, more = webhooks.claim(service.db, free, slow, OF_ONE_WEBHOOK, OF_ONE_OWNER, LEASE_S)
                sending |= {threads.submit(_timed, clock, one, send): one for one in claimed}
            if sending:
                ended = wait(sending, 0 if more else poll_s or POLL_S, FIRST_COMPLETED).done
                held = _note([(sending.pop(each), *each.result()) for each in ended], service, done)
                sending |= {threads.submit(_once_more, answer): one for one, answer in held}
            elif more:
                continue
            elif poll_s is None or deadline.remaining_s() <= RUN_RESERVE_S or not webhooks.any_enabled(service.db):
                break
            else:
                time.sleep(poll_s)
        while webhooks.prune(service.db) and deadline.remaining_s() > LAST_S:
            pass
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
    return done


def _timed(clock: Callable[[], float], one: Delivery, send: Send) -> Answer:
    begun_s = clock()
    return _attempt(one, send), clock() - begun_s, False


def _once_more(answer: int | str) -> Answer:
    time.sleep(AGAIN_S)
    return answer, 0.0, True


def _attempt(one: Delivery, send: Send) -> int | str:
    if one.event is None:
        return "the event is kept no longer"
    secrets, body = [one.secret, *filter(None, [one.previous_secret])], structured(one.event)
    try:
        return send(one.url, signed(str(one.event.event_id), int(time.time()), body, secrets), body)
    except Exception as error:  # The others must not wait for it. Its text may quote the address or what the receiver said.
        logger.error("a sending failed with %s", type(error).__name__, extra={"webhook_id": str(one.webhook_id)})
        return "it could not be sent"


def _note(
    ended: list[tuple[Delivery, int | str, float, bool]], service: Service, done: Couriered
) -> list[tuple[Delivery, int | str]]:
    """Write down how the deliveries went, and return those to note once more, because somebody holds them. The address is left
    out of the log, because it may hold a key of the receiver's."""
    slow, held = {one.webhook_id for one, _, took_s, _ in ended if took_s > webhooks.SLOW_S}, list[Delivery]()
    if arrived := [one for one, answer, _, _ in ended if _is_success(answer)]:
        held += webhooks.delivered(service.db, arrived, slow)
    for one, answer, _, is_again in ended:
        if _is_success(answer):
            done.delivered += not is_again
            continue
        error = f"it answered {answer}" if isinstance(answer, int) else answer
        how = {"is_gone": answer == GONE, "is_slow": one.webhook_id in slow, "is_again": is_again}
        given_up, disabled, is_held = webhooks.failed(service.db, one, error, **how)
        held += [one] * is_held
        done.failed += not is_again
        done.given_up, done.disabled = done.given_up + given_up, done.disabled + disabled
        ids = {"webhook_id": str(one.webhook_id), "payment_id": str(one.payment_id), "attempt": one.attempt}
        logger.info("not delivered: %s", error, extra=ids | {"given_up": given_up, "disabled": disabled})
    return [(one, answer) for one, answer, _, is_again in ended if one in held and not is_again]


def _is_success(answer: int | str) -> bool:
    return isinstance(answer, int) and 200 <= answer < 300
