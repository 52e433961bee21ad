"""Says over MQTT what a node does; a broker that is away, dying or silent slows nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime

import aiomqtt
from aiomqtt import MqttError, ProtocolVersion

from stream import contract
from stream.backlog import Backlog, Outgoing
from stream.contract import Offline, Phase, SessionState, Status, Value, envelope, in_utc
from stream.mqtt import (
    Address,
    Connection,
    Unanswered,
    connect,
    expiring,
    is_protocol_refused,
    is_taken_over,
)

log = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 5.0
FLUSH_S = 1.0  # for what waits, before the farewell
STOP_S = 1.5  # for all of it, to each broker


class Telemetry:
    """One node's voice, to any number of brokers. All of it belongs to one event loop."""

    def __init__(self, node: str, addresses: Sequence[Address], *, prefix: str = "omokage") -> None:
        self.boot_id = secrets.token_hex(4)
        self.phase = Phase.WARMING
        root = f"{prefix}/{contract.MAJOR}/{node}"
        self._links = [_Link(it, f"omokage-{node}", root, self.boot_id) for it in addresses]
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def is_connected(self) -> bool:
        """To every broker."""
        return all(link.is_connected for link in self._links)

    def publish(self, value: Value) -> None:
        """Never waits. A kept topic goes with its newest value, events wait for the broker."""
        at = in_utc(datetime.now(UTC))
        for link in self._links:
            link.put(value, at)

    def enter(self, phase: Phase) -> None:
        """The node's new phase, which `status` tells."""
        if phase is not self.phase:
            self.phase = phase
            for link in self._links:
                link.enter(phase)

    async def run(self) -> None:
        """Holds the connections until `stop`; what goes wrong with them is logged, not raised."""
        async with asyncio.TaskGroup() as group:
            self._tasks = [group.create_task(link.run()) for link in self._links]

    async def stop(self) -> None:
        """Sends what waits, then `offline` with `stopped`; over within 2 s."""
        for link in self._links:
            link.stop()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=STOP_S)
            for task in late:
                task.cancel()


class _Link:
    """To one broker: connects, again and again, and writes what waits."""

    def __init__(self, address: Address, identifier: str, root: str, boot_id: str) -> None:
        self._address = address
        self._identifier = identifier
        self._root = root
        self._boot_id = boot_id
        self._backlog = Backlog()
        self._connection = 0
        self._phase = Phase.WARMING
        self._protocol: ProtocolVersion | None = None  # that the broker has spoken
        self._guess = address.protocol
        self._stale: set[str] = set()  # kept topics of earlier boots
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._away_since_s = 0.0
        self._trouble: str | None = None
        self.is_connected = False

    def put(self, value: Value, at: str) -> None:
        self._backlog.put(value, at)
        self._wake.set()

    def enter(self, phase: Phase) -> None:
        self._phase = phase
        if self.is_connected:
            self._say_status()

    def stop(self) -> None:
        self._stopping.set()
        self._wake.set()

    async def run(self) -> None:
        now_s = asyncio.get_running_loop().time
        self._away_since_s = now_s()
        pause_s = FIRST_PAUSE_S
        while not self._stopping.is_set():
            began_s = now_s()
            try:
                await self._hold()
            except* (MqttError, OSError) as group:
                self._note(group.exceptions[0])
            except* Exception:
                # A mistake of ours in telling must not end what is told of.
                log.exception("telemetry failed: broker=%s", self._address)
            if self.is_connected:
                self.is_connected = False
                self._away_since_s = now_s()
            if now_s() - began_s > LONGEST_PAUSE_S:
                pause_s = FIRST_PAUSE_S
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)

    async def _hold(self) -> None:
        """One connection, from birth to farewell or loss."""
        self._connection += 1
        protocol = self._protocol or self._guess
        try:
            async with connect(self._address, self._identifier, protocol, self._will()) as line:
                self._protocol = protocol
                await line.subscribe(self._topic(Status.topic), self._topic("session/+"))
                self._greet()
                async with asyncio.TaskGroup() as group:
                    reader = group.create_task(self._read(line))
                    await self._write(line)
                    reader.cancel()
                await line.say_goodbye()
        except MqttError as error:
            self._choose_protocol(error)
            raise

    def _greet(self) -> None:
        loop = asyncio.get_running_loop()
        self.is_connected = True
        self._trouble = None
        self._stale.clear()
        log.info(
            "telemetry connected: broker=%s protocol=%s",
            self._address,
            "5" if self._protocol is ProtocolVersion.V5 else "3.1.1",
        )
        self._say_status()
        self._backlog.connected(loop.time() - self._away_since_s, in_utc(datetime.now(UTC)))

    async def _write(self, line: Connection) -> None:
        """Until the farewell has gone."""
        said_farewell = False
        flush_until_s: float | None = None
        while True:
            for topic in tuple(self._stale):
                await line.publish(topic, b"", qos=1, retain=True, properties=None)
                self._stale.discard(topic)
            outgoing = self._backlog.next()
            if self._stopping.is_set() and not said_farewell:
                now_s = asyncio.get_running_loop().time()
                flush_until_s = flush_until_s or now_s + FLUSH_S
                if outgoing is None or now_s > flush_until_s:
                    self._say_status(Offline.STOPPED)
                    said_farewell = True
                    continue
            if said_farewell and not self._backlog.is_due(Status.topic):
                return
            if outgoing is None:
                self._wake.clear()
                await self._wake.wait()
                continue
            await self._send(line, outgoing)
            self._backlog.sent(outgoing)

    async def _send(self, line: Connection, outgoing: Outgoing) -> None:
        value, rule = outgoing.value, outgoing.value.rule
        try:
            payload = envelope(value, self._boot_id, outgoing.seq, outgoing.at)
        except (TypeError, ValueError):
            log.exception("a message cannot be said as JSON: topic=%s", value.topic)
            return
        expires = rule.expiry_s if self._protocol is ProtocolVersion.V5 else None
        await line.publish(
            self._topic(value.topic),
            payload,
            qos=rule.qos,
            retain=rule.kept,
            properties=None if expires is None else expiring(expires),
        )
        if isinstance(value, SessionState) and value.is_over:
            topic = self._topic(value.topic)
            await line.publish(topic, b"", qos=1, retain=True, properties=None)

    async def _read(self, line: Connection) -> None:
        """Our own topics: a false word about us, and what earlier boots left."""
        status = self._topic(Status.topic)
        async for message in line.messages():
            topic = str(message.topic)
            if topic == status:
                # A will of an earlier connection that the broker came to only now.
                if not message.retain and _says_offline(message) and not self._stopping.is_set():
                    self._say_status()
            elif message.retain and message.payload and not self._is_ours(topic):
                self._stale.add(topic)
                self._wake.set()

    def _is_ours(self, topic: str) -> bool:
        return self._backlog.holds(topic.removeprefix(f"{self._root}/"))

    def _say_status(self, offline: Offline | None = None) -> None:
        self.put(Status(self._connection, self._phase, offline), in_utc(datetime.now(UTC)))

    def _will(self) -> aiomqtt.Will:
        last_word = Status(self._connection, None, Offline.LOST)
        return aiomqtt.Will(
            self._topic(Status.topic),
            envelope(last_word, self._boot_id, None, None),
            qos=Status.rule.qos,
            retain=Status.rule.kept,
        )

    def _topic(self, below: str) -> str:
        return f"{self._root}/{below}"

    def _choose_protocol(self, error: MqttError) -> None:
        """MQTT 5 unless the broker refuses it, or hangs up on it before it ever spoke."""
        if is_protocol_refused(error):
            self._protocol = None
        elif not isinstance(error, Unanswered):
            return
        if self._protocol is None:
            is_five = self._guess is ProtocolVersion.V5
            self._guess = ProtocolVersion.V311 if is_five else ProtocolVersion.V5

    def _note(self, error: Exception) -> None:
        """Each trouble is told once, until it is another or over."""
        if isinstance(error, MqttError) and is_taken_over(error):
            trouble = "another client has this node's name: give one of them another --node"
        else:
            trouble = str(error.__cause__ or error) or type(error).__name__
        if trouble != self._trouble:
            log.warning("telemetry waits for its broker: broker=%s %s", self._address, trouble)
            self._trouble = trouble


def _says_offline(message: aiomqtt.Message) -> bool:
    try:
        said = json.loads(message.payload) if isinstance(message.payload, bytes) else None
    except ValueError:
        return False
    return isinstance(said, dict) and said.get("state") == "offline"
