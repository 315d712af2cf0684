from __future__ import annotations

import time
import uuid

from payments.domain.ids import uuid7


def test_an_id_is_a_uuid_of_version_7_that_holds_its_millisecond() -> None:
    for _ in range(1000):
        before_ms = time.time_ns() // 1_000_000
        made = uuid7()
        after_ms = time.time_ns() // 1_000_000
        assert (made.version, made.variant) == (7, uuid.RFC_4122)
        assert before_ms <= made.int >> 80 <= after_ms


def test_ids_of_later_milliseconds_sort_later() -> None:
    made = [uuid7() for _ in range(20_000)]
    assert len(set(made)) == len(made)
    milliseconds = [one.int >> 80 for one in made]
    assert len(set(milliseconds)) > 1
    assert [one.int >> 80 for one in sorted(made, key=str)] == sorted(milliseconds)
    assert sorted(made, key=str) == sorted(made, key=lambda one: one.bytes), "as PostgreSQL compares them"


def test_all_the_bits_that_may_be_random_are() -> None:
    ones, zeros = 0, 0
    for _ in range(1000):
        value = uuid7().int & ((1 << 80) - 1)
        ones, zeros = ones | value, zeros | ~value
    changing = ones & zeros & ((1 << 80) - 1)
    assert changing.bit_count() == 74
