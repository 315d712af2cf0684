from __future__ import annotations

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def case(*what: object) -> Iterator[None]:
    """Name a case of a table that one test walks. An error that leaves the block gets the case as a note."""
    try:
        yield
    except BaseException as error:  # pytest's own failures are not derived from Exception
        error.add_note(f"in the case {', '.join(f'{each!r:.200}' for each in what)}")
        raise
