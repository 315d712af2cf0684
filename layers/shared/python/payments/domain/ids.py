"""UUIDv7 (RFC 9562, section 5.7). It begins with a clock in milliseconds, so that new rows land at the end of an index."""

import os
import time
from uuid import UUID


def uuid7() -> UUID:
    # The standard library has uuid.uuid7 from Python 3.14 on; we support 3.11. Each call draws from the kernel, because functions
    # that were restored from one SnapStart snapshot would share a generator.
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return UUID(int=value)
