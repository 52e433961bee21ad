"""The embedded MQTT broker: a supervised child on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import pwd
import shutil
import socket
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from types import TracebackType

from aiomqtt import ProtocolVersion

from stream.child import Child
from stream.mqtt import Address
from workers.errors import BrokerError

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
START_S = 15.0
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
END_S = 2.0

CONFIGURATION = """\
listener {port} {host}
allow_anonymous true
persistence false
log_dest stderr
log_type error
log_type warning
max_connections 256
max_queued_messages 1000
max_packet_size 65536
set_tcp_nodelay true
"""


class Kind(Enum):
    """What serves as the broker."""

    MOSQUITTO = "mosquitto"
    AMQTT = "amqtt"


AMQTT_LIMITS = (
    "mosquitto is not on PATH, so amqtt serves as the broker: MQTT 3.1.1 only, no last will for "
    "a client that falls silent, nothing kept for a client that is away"
)


class Broker:
    """An async context manager: entered once it answers; `run` keeps it so.

    Entering raises BrokerError when the port is taken or the broker does not come up.
    Port 0 takes a free one. `kind`: by default mosquitto where it is installed, else amqtt.
    """

    def __init__(self, port: int, kind: Kind | None = None) -> None:
        # Looked up once, here: a restart must not look at files from within the event loop.
        self._mosquitto = find_mosquitto()
        self._user_words = _user_words()
        if kind is None:
            kind = Kind.AMQTT if self._mosquitto is None else Kind.MOSQUITTO
        self.kind = kind
        self.port = port
        self._child: Child | None = None

    @property
    def address(self) -> Address:
        if self.kind is Kind.AMQTT:
            return Address(HOST, self.port, protocol=ProtocolVersion.V311)
        return Address(HOST, self.port)

    @property
    def url(self) -> str:
        return str(self.address)

    @property
    def pid(self) -> int | None:
        """The keeper's."""
        return self._child.pid if self._child is not None else None

    async def __aenter__(self) -> Broker:
        self.port = claim_port(self.port)
        if self.kind is Kind.AMQTT:
            log.warning(AMQTT_LIMITS)
        try:
            await self._start()
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._end()

    async def run(self) -> None:
        """Starts it again whenever it ends, until cancelled: telemetry waits meanwhile."""
        pause_s = FIRST_PAUSE_S
        while True:
            began_s = asyncio.get_running_loop().time()
            if self._child is not None:
                how = await self._child.wait()
                await self._child.end()
                log.warning("broker ended, starting it again: %s %s", self.kind.value, how)
            if asyncio.get_running_loop().time() - began_s > LONGEST_PAUSE_S:
                pause_s = FIRST_PAUSE_S
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
            try:
                await self._start()
            except BrokerError as error:
                log.warning("broker does not come back, trying again: %s", error)

    async def _start(self) -> None:
        name = f"broker ({self.kind.value})"
        if self.kind is Kind.AMQTT:
            words = ["--amqtt", HOST, str(self.port)]
            self._child = await Child.start(name, "stream.keeper", words)
        else:
            with _configuration(self.port) as fd:
                words = ["--pass", str(fd), *self._user_words, "--"]
                words += [self._mosquitto or "mosquitto", "-c", f"/proc/self/fd/{fd}"]
                self._child = await Child.start(name, "stream.keeper", words, pass_fds=[fd])
        try:
            async with asyncio.timeout(START_S):
                await self._until_it_answers(self._child)
        except TimeoutError:
            raise BrokerError(
                f"the broker ({self.kind.value}) does not answer on port {self.port} within "
                f"{START_S:.0f} s: its own words are in the log above"
            ) from None

    async def _until_it_answers(self, child: Child) -> None:
        while True:
            if not child.is_running:
                raise BrokerError(
                    f"the broker ({self.kind.value}) did not start on port {self.port}, "
                    f"{await child.wait()}: its own words are in the log above"
                )
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(HOST, self.port)
                writer.close()
                return
            await asyncio.sleep(0.03)

    async def _end(self) -> None:
        if self._child is not None:
            await self._child.end(END_S)
            self._child = None


@contextlib.contextmanager
def _configuration(port: int) -> Iterator[int]:
    """mosquitto's, in a memfd: readable for the user that it runs as, and never left behind."""
    fd = os.memfd_create("mosquitto.conf")
    try:
        os.pwrite(fd, CONFIGURATION.format(port=port, host=HOST).encode(), 0)
        yield fd
    finally:
        os.close(fd)


def claim_port(port: int) -> int:
    """The port if it is free, any free one for 0. Raises BrokerError."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise BrokerError(
                    f"port {port} is taken: stop its owner or pass --broker-port "
                    "(or --broker-url to use that broker)"
                ) from None
            raise BrokerError(
                f"port {port} cannot be used, {error.strerror}: pass another --broker-port"
            ) from None
        found: int = probe.getsockname()[1]
        return found


def find_mosquitto() -> str | None:
    """On PATH, or in an sbin beside it: Debian puts it there, and an ordinary user's PATH lacks
    it."""
    folders = [Path(it) for it in os.environ.get("PATH", os.defpath).split(os.pathsep) if it]
    beside = os.pathsep.join(str(it.with_name("sbin")) for it in folders if it.name == "bin")
    return shutil.which("mosquitto") or shutil.which("mosquitto", path=beside)


def _user_words() -> list[str]:
    """As whom the keeper runs the broker: root's broker is not to be root."""
    if os.geteuid() != 0:
        return []
    for name in ("mosquitto", "nobody"):
        with contextlib.suppress(KeyError):
            return ["--user", pwd.getpwnam(name).pw_name]
    return []
