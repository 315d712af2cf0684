"""PostgreSQL with an archive of its write-ahead log, and a second server that is restored from it to a moment.

Aurora keeps such an archive itself. Here it is PostgreSQL's own: a base backup, the log, and recovery_target_time.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from chaos.servers import processes_of, signal_all
from local.folder import write_private
from local.servers import EmbeddedPostgres, ServerError, connect

ARCHIVED_S = 60.0
"""How long PostgreSQL may need to archive a segment or to write a base backup: it takes a second."""


class ArchivedPostgres(EmbeddedPostgres):
    """As in the harness's other runs without fsync, because no machine dies."""

    def __init__(self, folder: Path, archive: Path) -> None:
        self.archive = archive
        super().__init__(
            folder,
            silent,
            fsync="off",
            full_page_writes="on",
            wal_level="replica",
            archive_mode="on",
            archive_command=f"cp %p {archive}/%f",
        )

    def prepare(self) -> None:
        super().prepare()
        self.archive.mkdir(exist_ok=True)
        owner = self._folder.stat()
        if os.geteuid() == 0:
            os.chown(self.archive, owner.st_uid, owner.st_gid)

    def back_up(self) -> Path:
        """Write a base backup and return its folder. Raises ServerError."""
        backup = self._folder / "backup"
        program = str(self._programs / "pg_basebackup")
        options = [f"--dbname={self.url}", f"--pgdata={backup}", "--checkpoint=fast", "--wal-method=stream"]
        if status := self.spawn([program, *options], signal.SIGTERM).wait(ARCHIVED_S):
            raise self.failure(f"pg_basebackup ended with status {status}")
        return backup

    def archive_all(self) -> None:
        """Wait until all that was written so far is in the archive. Raises TimeoutError."""
        with contextlib.closing(connect(self.url)) as connection:
            # The commit after the moment ends the recovery. Without one, PostgreSQL takes the moment for one that never came.
            connection.run("CREATE TABLE IF NOT EXISTS after_the_moment ()")
            [[segment]] = connection.run("SELECT pg_walfile_name(pg_switch_wal())")
            until((self.archive / str(segment)).exists)

    def lose(self) -> None:
        """Kill the server without a shutdown, and delete its data. Only the backup and the archive are left."""
        self._stopping.set()
        signal_all(processes_of(self), signal.SIGKILL)
        self.stop()
        shutil.rmtree(self._cluster)


class RestoredPostgres(ArchivedPostgres):
    """A new server on the backup of a lost one. Its start lasts until it stands at the moment and takes writes."""

    def __init__(self, folder: Path, lost: ArchivedPostgres, backup: Path, moment: datetime) -> None:
        folder.mkdir()
        own = {name: value for name, value in lost.state.items() if name != "port"}
        write_private(folder / f"{self.name}.json", json.dumps(own))  # the roles, with their passwords, are in the backup
        super().__init__(folder, folder / "archive")
        self._backup = backup
        self._settings |= {
            "restore_command": f"cp {lost.archive}/%f %p",
            "recovery_target_time": moment.isoformat(),
            "recovery_target_action": "promote",
        }

    def prepare(self) -> None:
        if not self._cluster.exists():
            self._folder.mkdir(mode=0o700)
            self._backup.rename(self._cluster)
            (self._cluster / "recovery.signal").touch()
        super().prepare()

    def connect(self) -> None:
        with contextlib.closing(connect(self.url)) as connection:
            if connection.run("SELECT pg_is_in_recovery()") == [[True]]:
                raise ServerError("it is still being restored")


def silent(_: str) -> None:
    """Report nothing, as the other servers of the harness."""


def until(check: Callable[[], bool]) -> None:
    end_s = time.monotonic() + ARCHIVED_S
    while not check():
        if time.monotonic() > end_s:
            raise TimeoutError
        time.sleep(0.02)
