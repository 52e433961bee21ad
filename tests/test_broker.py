"""stream/broker.py and stream/keeper.py: both brokers, alive and ended for certain."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stream.broker import HOST, Broker, Kind, find_mosquitto
from tests.listener import listening, tell
from tests.processes import is_gone, only_child, until_gone
from workers.errors import BrokerError

ROOT = Path(__file__).parent.parent
BOTH = pytest.mark.parametrize("kind", list(Kind))


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def listens_on(port: int) -> set[str]:
    """The addresses, as the kernel writes them."""
    listed = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
    sockets = [line.split() for line in listed.splitlines()]
    return {it[1] for it in sockets if it[3] == "0A" and it[1].endswith(f":{port:04X}")}


@BOTH
async def test_a_broker_passes_messages_on_and_leaves_nothing_behind(kind: Kind) -> None:
    async with Broker(0, kind) as broker:
        assert broker.pid is not None
        pids = broker.pid, only_child(broker.pid)
        protocol = "mqttv5" if kind is Kind.MOSQUITTO else "mqttv311"
        async with listening(broker.address, protocol=protocol) as listener:
            await tell(broker.address, "a/b", "hello", kept=False)
            await listener.until(lambda it: it.heard)
            assert listener.heard[0].payload == b"hello"
    assert all(map(is_gone, pids))
    assert not answers(broker.port)


@BOTH
async def test_a_broker_listens_on_loopback_only(kind: Kind) -> None:
    async with Broker(0, kind) as broker:
        assert listens_on(broker.port) == {f"0100007F:{broker.port:04X}"}


async def test_a_taken_port_is_told_with_its_mend() -> None:
    with socket.socket() as owner:
        owner.bind((HOST, 0))
        owner.listen()
        port = owner.getsockname()[1]
        mend = "stop its owner or pass --broker-port .or --broker-url to use that broker."
        with pytest.raises(BrokerError, match=f"^port {port} is taken: {mend}$"):
            async with Broker(port):
                pass


@BOTH
async def test_a_broker_that_dies_is_started_again_on_its_port(kind: Kind) -> None:
    async with Broker(0, kind) as broker:
        task = asyncio.create_task(broker.run())
        assert broker.pid is not None
        os.kill(only_child(broker.pid), signal.SIGKILL)
        before, end_s = broker.pid, time.monotonic() + 10
        while broker.pid == before or not answers(broker.port):
            assert time.monotonic() < end_s
            await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_broker_dies_with_its_keeper() -> None:
    async with Broker(0, Kind.MOSQUITTO) as broker:
        assert broker.pid is not None
        pid = only_child(broker.pid)
        os.kill(broker.pid, signal.SIGKILL)
        await until_gone(pid)


@BOTH
async def test_a_broker_leaves_when_its_server_was_killed(kind: Kind) -> None:
    script = (
        "import asyncio\n"
        "from stream.broker import Broker, Kind\n"
        "async def main():\n"
        f"    async with Broker(0, Kind({kind.value!r})) as broker:\n"
        "        print(broker.pid, flush=True)\n"
        "        await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    assert process.stdout is not None
    keeper = int(await process.stdout.readline())
    pids = keeper, only_child(keeper)
    process.kill()
    await process.wait()
    await until_gone(*pids)


def test_mosquitto_is_found_on_path_and_in_the_sbin_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("bin", "sbin", "other"):
        (tmp_path / folder).mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path}/other:{tmp_path}/bin")
    assert find_mosquitto() is None
    for folder in ("sbin", "bin"):
        program = tmp_path / folder / "mosquitto"
        program.touch(mode=0o755)
        assert find_mosquitto() == str(program)


def test_the_keeper_knows_neither_torch_nor_aiortc() -> None:
    script = (
        "import sys, stream.keeper; print(sorted({'torch', 'aiortc', 'av'} & set(sys.modules)))"
    )
    assert subprocess.check_output([sys.executable, "-c", script], cwd=ROOT) == b"[]\n"
