"""stream/telemetry.py against real brokers, heard by a real subscriber."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from stream.broker import HOST, Broker, Kind
from stream.contract import Phase, Value
from stream.mqtt import Address
from stream.session import State
from stream.telemetry import Telemetry
from tests import samples
from tests.listener import Heard, Listener, listening, tell
from tests.processes import descriptors, only_child
from tests.wire import check
from workers.errors import SettingsError

ROOT = Path(__file__).parent.parent
EVERYTHING: list[Value] = [
    samples.INFO, samples.OVERVIEW, samples.event(), samples.MEMORY, samples.SUMMARY,
    samples.session("aya", State.LIVE, 2),
]  # fmt: skip


@contextlib.asynccontextmanager
async def talking(*addresses: Address) -> AsyncIterator[Telemetry]:
    telemetry = Telemetry("a", addresses)
    async with asyncio.TaskGroup() as group:
        group.create_task(telemetry.run())
        yield telemetry
        await telemetry.stop()


@contextlib.asynccontextmanager
async def broker(kind: Kind = Kind.MOSQUITTO) -> AsyncIterator[tuple[Broker, Address]]:
    async with Broker(0, kind) as it:
        yield it, it.address


def checked(listener: Listener) -> list[Heard]:
    """All that was heard, once the contract's schemas have passed it."""
    for it in listener.heard:
        if it.payload:
            check(it.topic, it.payload)
    return listener.heard


def state(heard: Heard) -> tuple[object, object, object]:
    said = heard.said
    return said["state"], said["phase"], said["reason"]


async def test_every_topic_is_heard_as_the_contract_says_and_the_end_too() -> None:
    async with broker() as (_, address), listening(address) as live:
        async with talking(address) as telemetry:
            for value in EVERYTHING:
                telemetry.publish(value)
            telemetry.enter(Phase.SERVING)
            await live.until(lambda it: any(h.said["phase"] == "serving" for h in it.of("status")))
            telemetry.publish(samples.BATCH)
            await live.until(lambda it: it.of("worker/0/batch") and it.of("event"))
            async with listening(address) as late:
                await late.until(lambda it: len(it.heard) == 6)
        await live.until(lambda it: state(it.of("status")[-1])[0] == "offline")
        assert {it.topic.removeprefix("omokage/1/a/"): it.qos for it in checked(live)} == {
            "status": 1, "info": 1, "overview": 0, "event": 1, "worker/0/memory": 0,
            "worker/0/summary": 0, "worker/0/batch": 0, "session/aya": 1,
        }  # fmt: skip
        assert state(live.of("status")[-1]) == ("offline", "serving", "stopped")
        assert {it.said["boot_id"] for it in live.heard} == {telemetry.boot_id}
        kept = {it.topic.removeprefix("omokage/1/a/"): it for it in late.heard if it.is_kept}
        assert set(kept) == {
            "status", "info", "overview", "worker/0/memory", "worker/0/summary", "session/aya",
        }  # fmt: skip
        ages = {topic: it.expiry_s for topic, it in kept.items() if it.expiry_s is not None}
        assert set(ages) == {"overview", "worker/0/memory", "worker/0/summary"}
        assert 110 < ages["overview"] <= 120 and 50 < ages["worker/0/memory"] <= 60


async def test_status_comes_last_and_a_topics_messages_are_numbered_from_zero() -> None:
    async with broker() as (_, address), listening(address) as live:
        async with talking(address) as telemetry:
            for value in EVERYTHING:
                telemetry.publish(value)
            await live.until(lambda it: it.of("event"))
            topics = [it.topic.rpartition("/")[2] for it in live.heard]
            assert topics.index("status") == len(topics) - 2 and topics[-1] == "event"
            for number in range(1, 30):
                telemetry.publish(samples.event(number))
            await live.until(lambda it: len(it.of("event")) == 30)
        assert [it.said["seq"] for it in live.of("event")] == list(range(30))
        assert live.of("status")[0].said["seq"] == 0
        assert live.of("status")[0].said["connection"] == 1


async def test_two_brokers_both_hear_everything_and_the_end() -> None:
    async with (
        broker() as (_, first), broker() as (_, second),
        listening(first) as here, listening(second) as there,
    ):  # fmt: skip
        async with talking(first, second) as telemetry:
            telemetry.publish(samples.event())
            for it in (here, there):
                await it.until(lambda it: it.of("event"))
        for it in (here, there):
            await it.until(
                lambda it: state(it.of("status")[-1]) == ("offline", "warming", "stopped")
            )
            checked(it)


async def test_a_broker_of_the_old_protocol_is_served_too() -> None:
    async with (
        broker(Kind.AMQTT) as (_, address), listening(address, "omokage/#", "mqttv311") as live
    ):  # fmt: skip
        async with talking(address) as telemetry:
            for value in EVERYTHING:
                telemetry.publish(value)
            await live.until(lambda it: it.of("status") and it.of("event"))
            telemetry.publish(samples.session("aya", State.ENDED))
            await live.until(lambda it: any(not h.payload for h in it.heard))
        await live.until(lambda it: it.of("status")[-1].said["reason"] == "stopped")
        assert len({it.topic for it in checked(live)}) == len(EVERYTHING) + 1


async def test_a_session_ends_with_a_last_word_and_leaves_nothing_kept() -> None:
    sessions = "omokage/1/a/session/#"
    async with (
        broker() as (_, address), listening(address, sessions) as live,
        talking(address) as telemetry,
    ):  # fmt: skip
        telemetry.publish(samples.session("aya", State.LIVE))
        await live.until(lambda it: it.of("session/aya"))
        telemetry.publish(samples.session("aya", State.ENDED))
        await live.until(lambda it: it.heard[-1].payload == b"")
        assert [it.said["state"] for it in live.of("session/aya")] == ["live", "ended"]
        async with listening(address, sessions) as late:
            await asyncio.sleep(0.2)
            assert late.heard == []


async def test_what_earlier_boots_left_is_cleared_and_what_is_ours_stays() -> None:
    async with broker() as (_, address):
        for name in ("old", "older", "aya"):
            await tell(address, f"omokage/1/a/session/{name}", '{"boot_id":"gone"}', kept=True)
        await tell(address, "omokage/1/b/session/theirs", '{"boot_id":"b"}', kept=True)
        async with listening(address) as live, talking(address) as telemetry:
            telemetry.publish(samples.session("aya", State.LIVE))
            await live.until(lambda it: len([h for h in it.heard if not h.payload]) == 2)
            async with listening(address) as late:
                await late.until(lambda it: len(it.heard) == 3)
                topics = {it.topic.removeprefix("omokage/1/") for it in late.heard}
                assert topics == {"a/status", "a/session/aya", "b/session/theirs"}
                assert late.of("session/aya")[0].said["boot_id"] == telemetry.boot_id


async def test_a_node_that_reads_itself_offline_says_online_again() -> None:
    async with broker() as (_, address), listening(address) as live, talking(address):
        await live.until(lambda it: it.of("status"))
        will = '{"boot_id":"gone","connection":9,"seq":null,"at":null,"state":"offline",'
        will += '"phase":null,"reason":"lost"}'
        await tell(address, "omokage/1/a/status", will, kept=True)
        await live.until(lambda it: len(it.of("status")) == 3)
        assert [state(it)[0] for it in live.of("status")] == ["online", "offline", "online"]


async def test_a_node_that_was_killed_is_shown_as_lost() -> None:
    script = (
        "import asyncio, sys\n"
        "from stream.telemetry import Telemetry\n"
        "from stream.mqtt import Address\n"
        "asyncio.run(Telemetry('a', [Address.parse(sys.argv[1])]).run())\n"
    )
    async with broker() as (_, address), listening(address) as live:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", script, str(address), cwd=ROOT
        )
        await live.until(lambda it: it.of("status"))
        killed_s = time.monotonic()
        process.kill()
        await process.wait()
        await live.until(lambda it: len(it.of("status")) == 2)
        assert time.monotonic() - killed_s < 7.5
        birth, will = (it.said for it in live.of("status"))
        assert (will["state"], will["reason"]) == ("offline", "lost")
        assert (will["boot_id"], will["connection"]) == (birth["boot_id"], birth["connection"])
        checked(live)


class Way:
    """A relay on the way to a broker, which can be cut."""

    def __init__(self, address: Address) -> None:
        self._to = address
        self._server: asyncio.Server | None = None
        self._ends: list[asyncio.StreamWriter] = []
        self.address = address

    async def open(self) -> None:
        port = 0 if self.address == self._to else self.address.port
        self._server = await asyncio.start_server(self._relay, HOST, port)
        self.address = Address(HOST, self._server.sockets[0].getsockname()[1])

    async def cut(self) -> None:
        assert self._server is not None
        self._server.close()
        for end in self._ends:
            end.transport.abort()
        self._ends.clear()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, on = await asyncio.open_connection(self._to.host, self._to.port)
        self._ends += [writer, on]
        await asyncio.gather(self._copy(reader, on), self._copy(back, writer))

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
        writer.close()


async def test_events_wait_for_an_absent_broker_in_order_and_the_gap_is_told() -> None:
    async with broker() as (_, address), listening(address) as live:
        way = Way(address)
        await way.open()
        async with talking(way.address) as telemetry:
            telemetry.publish(samples.INFO)
            await live.until(lambda it: it.of("status"))
            await way.cut()
            await live.until(lambda it: it.of("status")[-1].said["reason"] == "lost")
            for number in range(20):
                telemetry.publish(samples.event(number))
            telemetry.publish(samples.session("aya", State.LIVE))
            await way.open()
            await live.until(lambda it: len(it.of("event")) == 21)
        await way.cut()
        await live.until(lambda it: it.of("status")[-1].said["state"] == "offline")
        events = [it.said for it in checked(live) if it.topic.endswith("/event")]
        assert [it["data"].get("number") for it in events[:20]] == list(range(20))
        assert events[20]["event_type"] == "telemetry_gap"
        assert events[20]["data"]["events_lost"] == 0 and 0 < events[20]["data"]["outage_s"] < 10
        first, lost, again, stopped = (it.said for it in live.of("status"))
        assert lost["connection"] == first["connection"] == 1 < again["connection"]
        assert again["state"] == "online" and stopped["state"] == "offline"
        assert len(live.of("info")) == 2  # kept topics come anew
        order = [it.topic.rpartition("/")[2] for it in live.heard[3:]]
        assert order[:4] == ["info", "aya", "status", "event"]


async def test_a_broker_that_stands_still_never_holds_up_the_loop() -> None:
    async with broker() as (it, address), listening(address) as live, talking(address) as node:
        await live.until(lambda it: it.of("status"))
        assert it.pid is not None
        pid = only_child(it.pid)
        os.kill(pid, signal.SIGSTOP)
        worst_put_s, worst_lag_s, end_s = 0.0, 0.0, time.monotonic() + 3.5
        number = 0
        try:
            while (now_s := time.monotonic()) < end_s:
                for value in (samples.event(number), samples.MEMORY, samples.BATCH):
                    node.publish(value)
                number += 1
                put_s = time.monotonic()
                worst_put_s = max(worst_put_s, put_s - now_s)
                await asyncio.sleep(0.01)
                worst_lag_s = max(worst_lag_s, time.monotonic() - put_s - 0.01)
        finally:
            os.kill(pid, signal.SIGCONT)
        assert worst_put_s < 0.05 and worst_lag_s < 0.5
        await live.until(lambda it: len({e.said["seq"] for e in it.of("event")}) > number, 15)
        seqs = [e.said["seq"] for e in live.of("event")]
        assert sorted(set(seqs)) == list(range(number + 1))  # all, and the gap's own
        await live.until(lambda it: state(it.of("status")[-1])[0] == "online")


async def test_an_absent_broker_costs_nothing_and_the_end_is_quick() -> None:
    nobody = Address(HOST, 1)
    async with talking(nobody) as telemetry:
        for number in range(5000):
            telemetry.publish(samples.event(number))
        await asyncio.sleep(0.1)
        assert not telemetry.is_connected
        began_s = time.monotonic()
    assert time.monotonic() - began_s < 0.5


async def test_stopping_while_a_broker_says_nothing_goes_without_a_complaint() -> None:
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, it: complaints.append(it))
    writers: list[asyncio.StreamWriter] = []
    async with await asyncio.start_server(lambda _, it: writers.append(it), HOST, 0) as silent:
        async with talking(Address(HOST, silent.sockets[0].getsockname()[1])):
            await asyncio.sleep(0.2)
        await asyncio.sleep(0.1)
        for writer in writers:
            writer.close()
            await writer.wait_closed()
    assert writers and not complaints


async def test_a_node_that_stopped_leaves_no_task_thread_or_descriptor() -> None:
    async with broker() as (_, address):
        counts = []
        for _ in range(3):
            async with listening(address) as live, talking(address):
                await live.until(lambda it: it.of("status"))
            await asyncio.sleep(0.05)
            counts.append((len(asyncio.all_tasks()), threading.active_count(), descriptors()))
        assert counts[1][0] == counts[2][0] == 1
        assert counts[1] == counts[2]


def test_an_address_is_read_from_a_url_and_never_shows_its_password() -> None:
    address = Address.parse("mqtts://aya:p%40ss@broker.example")
    assert (address.host, address.port, address.is_secure) == ("broker.example", 8883, True)
    assert (address.user, address.password) == ("aya", "p@ss")
    assert Address.parse("mqtt://[::1]:1900") == Address("::1", 1900)
    assert "p@ss" not in f"{address} {address!r}" and "aya" not in f"{address} {address!r}"


@pytest.mark.parametrize("url", ["http://secret@x", "mqtt://", "secret", "mqtt://secret:99999"])
def test_a_url_that_is_none_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(SettingsError) as raised:
        Address.parse(url)
    assert "secret" not in str(raised.value)
