"""Keeps an MQTT broker for as long as the server lives, and ends it with the server."""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import logging
import os
import pwd
import select
import signal
import subprocess
import sys
from collections.abc import Sequence
from types import FrameType

from workers.parent import leave_with_parent

TERMINATE_S = 1.0
PR_SET_PDEATHSIG = 1


def keep(command: Sequence[str], alive_fd: int, pass_fds: Sequence[int], user: str | None) -> int:
    """Runs `command` until it ends or `alive_fd` does; its exit code, 0 when we ended it.

    The command is killed when this process is, too.
    """
    libc = ctypes.CDLL(None)
    ours = os.getpid()
    whose = pwd.getpwnam(user) if user is not None else None

    def die_with_us() -> None:
        # Runs after the change of user, which would clear it.
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != ours:
            os._exit(1)

    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        pass_fds=pass_fds,
        user=whose.pw_uid if whose else None,
        group=whose.pw_gid if whose else None,
        extra_groups=[] if whose else None,
        preexec_fn=die_with_us,  # safe: this process has no other thread
    )
    try:
        process_fd = os.pidfd_open(process.pid)
        ready, _, _ = select.select([alive_fd, process_fd], [], [])
        code = process.wait() if process_fd in ready else 0
        return code if code >= 0 else 128 - code  # killed by a signal: as a shell says it
    finally:
        process.terminate()
        try:
            process.wait(TERMINATE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


async def host_amqtt(host: str, port: int) -> None:
    """amqtt's broker in this process, until it is cancelled."""
    from amqtt.broker import Broker  # type: ignore[import-untyped]  # it ships no types

    broker = Broker(
        {
            "listeners": {
                "default": {"type": "tcp", "bind": f"{host}:{port}", "max_connections": 256}
            },
            "plugins": {
                "amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}
            },
        }
    )
    await broker.start()
    await asyncio.Event().wait()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line: `--alive FD` and a command after `--`, or `--amqtt HOST PORT`."""
    parser = argparse.ArgumentParser(prog="stream.keeper", description=__doc__)
    parser.add_argument("--alive", type=int, required=True, help="the server's pipe")
    parser.add_argument("--pass", dest="pass_fds", type=int, nargs=1, default=[], metavar="FD")
    parser.add_argument("--user", help="whom to run the command as")
    parser.add_argument("--amqtt", nargs=2, metavar=("HOST", "PORT"))
    parser.add_argument("command", nargs="*")
    chosen = parser.parse_args(arguments)
    if chosen.amqtt:
        leave_with_parent(chosen.alive)
        logging.basicConfig(level=logging.ERROR, format="%(message)s", stream=sys.stderr)
        asyncio.run(host_amqtt(chosen.amqtt[0], int(chosen.amqtt[1])))
        return 0
    signal.signal(signal.SIGTERM, _leave)
    return keep(chosen.command, chosen.alive, chosen.pass_fds, chosen.user)


def _leave(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    sys.exit(main())
