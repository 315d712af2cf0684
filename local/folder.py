"""The data folder of a run: for this runner alone, and closed to other users."""

import contextlib
import errno
import fcntl
import json
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

OWN_FOLDERS = {"logs", "postgres", "broker"}
OWN_FILE = re.compile(r"lock|(run|postgres|broker)\.json(\.[a-z0-9_]{8})?")  # with what an interrupted write_private left
OWN_LOG = re.compile(r"[\w-]+\.log(\.1)?")


class FolderError(Exception):
    """The folder cannot be used. The message says why and what to do."""


@contextlib.contextmanager
def data_folder(path: Path) -> Iterator[Path]:
    """Make the folder if it is missing, and lock it for this runner. The lock ends with the process, also after a kill."""
    path = path.expanduser().resolve()
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = (path / "lock").open("a")
        (path / "logs").mkdir(exist_ok=True)
    except OSError as error:
        raise FolderError(
            f"the data folder {path} cannot be written ({error.strerror}). Choose another: DATA_DIR=~/payments make run"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise FolderError(
                f"the service already runs on {path}{_other_run(path)}. Stop it with Ctrl-C in its terminal, "
                "or start a second one: PORT=8002 DATA_DIR=.local-2 make run"
            ) from None
        close_to_others(path)
        yield path


def close_to_others(folder: Path) -> None:
    """Take other users' rights from the folder, and from what a run with another umask left in it.

    What is not ours stays as it is: somebody may have named a folder of many users, such as /tmp. Raises FolderError when another
    user owns what has a name of ours: we would write passwords and payments where that user can read them.
    """
    ours = [entry for entry in folder.iterdir() if entry.name in OWN_FOLDERS or OWN_FILE.fullmatch(entry.name)]
    whole = [folder] if len(ours) == len(list(folder.iterdir())) else []
    logs = [log for log in (folder / "logs").glob("*") if OWN_LOG.fullmatch(log.name)] if folder / "logs" in ours else []
    users = {os.geteuid(), folder.stat().st_uid} if os.geteuid() == 0 else {os.geteuid()}
    for entry in (*whole, *ours, *logs):
        # Nobody can put a link into the place of what is open, and a pipe without a writer does not delay us.
        try:
            descriptor = os.open(entry, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO, errno.ENOENT):  # a link, a socket, or gone
                continue
            raise FolderError(f"{entry} cannot be read ({error.strerror}). Remove it, or choose another DATA_DIR") from error
        try:
            found, is_folder = os.fstat(descriptor), entry == folder or entry.name in OWN_FOLDERS
            if is_folder is not stat.S_ISDIR(found.st_mode) or not (is_folder or stat.S_ISREG(found.st_mode)):
                continue
            # Root gives PostgreSQL's folder to the user as whom it starts the server.
            if found.st_uid not in users and not (os.geteuid() == 0 and entry.name == "postgres"):
                raise FolderError(f"{entry} belongs to another user. Remove it, or choose another DATA_DIR")
            os.fchmod(descriptor, 0o700 if is_folder else 0o600)
        finally:
            os.close(descriptor)


def _other_run(path: Path) -> str:
    try:
        run = json.loads((path / "run.json").read_text())
        return f" as {run['url']} (pid {run['pid']})"
    except (OSError, ValueError, KeyError):
        return ""


def fresh_log(path: Path) -> None:
    """Begin an empty log. Keep only the log of the run before, as .1, so that logs do not grow for ever."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        path.replace(path.with_name(f"{path.name}.1"))
    for own in path.parent.glob(f"{path.stem}-*.log"):  # of an invocation with LogType=Tail, when its run was killed
        own.unlink()
    path.touch()


def write_private(path: Path, text: str) -> None:
    """Write the file whole or not at all. Only the folder's owner can read it."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.")  # with mode 0600
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    if os.geteuid() == 0:
        folder = path.parent.stat()
        os.chown(name, folder.st_uid, folder.st_gid)
    Path(name).replace(path)
