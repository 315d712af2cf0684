"""Standard output and standard error, in a form whose failures we know."""

import io
import os
import select
import sys
import unicodedata
from pathlib import Path
from typing import Any

from payments_cli.errors import OutputFailed

# Control characters, directions of reading, half characters and line separators can make a terminal show another text.
UNSAFE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
JOINERS = "\u200c\u200d"  # Persian words and some emoji need them


def take_streams() -> None:
    """Put streams in the place of Python's that can show every character and whose failures we know."""
    if sys.__stdin__ is None:
        sys.stdin = Path(os.devnull).open()  # noqa: SIM115 - it stays open
    sys.stdout = _Text(sys.__stdout__, raises=True)
    sys.stderr = _Text(sys.__stderr__, raises=False)


def plain(value: Any) -> Any:
    """Return the text, or all texts in the value, with escapes in the place of what could make a terminal show something else."""
    if isinstance(value, str):
        if value.isprintable():
            return value
        return "".join(
            character.encode("unicode_escape").decode()
            if unicodedata.category(character) in UNSAFE and character not in JOINERS
            else character
            for character in value
        )
    if isinstance(value, dict):
        return {plain(name): plain(each) for name, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list) else value


def say(line: str) -> bool:
    """Show a line to the person who waits. Return whether standard error takes it; this never raises an error."""
    sys.stderr.write(plain(line) + "\n")
    sys.stderr.flush()
    return not (isinstance(sys.stderr, _Text) and sys.stderr.channel.failed)


class _Channel(io.RawIOBase):
    """A standard stream that fails at most once. It drops what is written later, so that Python's flush at the end succeeds."""

    def __init__(self, raw: io.RawIOBase | io.FileIO, *, raises: bool) -> None:
        self._raw = raw
        self._raises = raises
        self.failed = False

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self._raw.isatty()

    def fileno(self) -> int:
        return self._raw.fileno()

    def write(self, data: Any) -> int:
        if self.failed:
            return len(data)
        try:
            while (written := self._raw.write(data)) is None:  # it belongs to a program that does not wait; we do
                select.select([], [self._raw], [])
            return written
        except OSError as error:
            self.failed = True
            if self._raises:
                raise OutputFailed(error) from None
            return len(data)
        except BaseException:  # Ctrl-C while nobody reads: at the end, the rest would wait for the reader again
            self.failed = True
            raise


class _Text(io.TextIOWrapper):
    def __init__(self, given: Any, *, raises: bool) -> None:
        """`given` is Python's own stream, or None if its descriptor was closed."""
        # Writing to this descriptor fails as it does with a closed one, and no connection gets the number of a standard stream.
        raw = getattr(given.buffer, "raw", given.buffer) if given else io.FileIO(os.open(os.devnull, os.O_RDONLY), "w")
        self.channel = _Channel(raw, raises=raises)
        encoding = given.encoding if given else "utf-8"
        super().__init__(io.BufferedWriter(self.channel), encoding, "backslashreplace", line_buffering=True)
