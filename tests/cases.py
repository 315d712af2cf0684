from __future__ import annotations

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def case(*what: object) -> Iterator[None]:
    """Name a case of a table that one test walks: an error that leaves the block says which case it was."""
    try:
        yield
    except BaseException as error:  # pytest's own failures are no Exception
        error.add_note(f"in the case {', '.join(f'{each!r:.200}' for each in what)}")
        raise
