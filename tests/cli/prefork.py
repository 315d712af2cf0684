"""A process that has run the command line once and then forks a copy of itself for each command.

A command is a process of its own, as for its users, but its libraries are imported already.
The requests come through standard input, which is a socket. Each holds the descriptors of the command's standard streams, its
arguments and its environment. The reply is the exit code.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import sys
import time


def main() -> None:
    channel = socket.socket(fileno=os.dup(0))
    import_libraries()
    while streams := socket.recv_fds(channel, 1, 3)[1]:
        line = b""
        while not line.endswith(b"\n"):
            line += channel.recv(65_536)
        if not (child := os.fork()):
            channel.close()
            return become(streams, **json.loads(line))
        for stream in streams:
            os.close(stream)
        channel.sendall(b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    return None


def import_libraries() -> None:
    """Let a command that finds no service import them, and the help. Each copy imports the command line itself again."""
    importlib.import_module("kafka")
    for arguments in (["show", "order-1", "--url", "http://127.0.0.1:1", "--no-retry"], ["show", "--help"]):
        with contextlib.suppress(SystemExit):
            run(*arguments)
    for name in [name for name in sys.modules if name.startswith("payments_cli")]:
        del sys.modules[name]
    gc.freeze()


def become(streams: list[int], arguments: list[str], environment: dict[str, str]) -> None:
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the runs of this process have left it ignored
    run(*arguments)


def run(*arguments: str) -> None:
    sys.argv = ["payments_cli", *arguments]
    runpy.run_module("payments_cli", run_name="__main__", alter_sys=True)


main()
