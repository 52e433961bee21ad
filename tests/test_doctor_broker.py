"""stream/doctor/broker.py against real brokers, and what is none."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from stream import mqtt
from stream.broker import Broker, Kind, find_mosquitto
from stream.doctor import broker
from stream.doctor.finding import Finding, Level
from stream.settings import Settings
from tests.listener import listening
from tests.server import free_port
from tests.test_tls import pair

HOST = "127.0.0.1"


def configured(folder: Path, port: int, lines: Sequence[str]) -> Path:
    passwords, rules = folder / "passwords", folder / "rules"
    passwords.touch(mode=0o644)
    subprocess.run(["mosquitto_passwd", "-b", passwords, "aya", "secret"], check=True)
    passwords.chmod(0o644)
    rules.write_text("user aya\ntopic readwrite open/#\n")
    for it in (folder, rules):
        it.chmod(0o755)
    configuration = folder / "mosquitto.conf"
    configuration.write_text(
        f"listener {port} {HOST}\nallow_anonymous false\nuser root\n"
        f"password_file {passwords}\nacl_file {rules}\n" + "\n".join(lines)
    )
    return configuration


@contextlib.asynccontextmanager
async def mosquitto(folder: Path, *lines: str) -> AsyncIterator[int]:
    """A user's own, with a user `aya`, who may use `open/#` only."""
    port = free_port()
    configuration = configured(folder, port, lines)
    program = find_mosquitto()
    assert program is not None
    process = await asyncio.create_subprocess_exec(program, "-c", str(configuration))
    try:
        async with asyncio.timeout(10):
            while True:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection(HOST, port)
                    writer.close()
                    break
                await asyncio.sleep(0.02)
        yield port
    finally:
        process.kill()
        await process.wait()


async def found(url: str, prefix: str = "open") -> Finding:
    settings = Settings(broker_url=url, topic_prefix=prefix, node="a")
    (it,) = await broker.look(settings)
    assert "secret" not in it.says and "wrong" not in it.says
    return it


async def test_a_brokers_login_and_its_rules_are_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker, "TRIP_S", 0.5)
    async with mosquitto(tmp_path) as port:
        good = await found(f"mqtt://aya:secret@{HOST}:{port}")
        assert good.level is Level.OK
        assert good.says == f"mqtt://{HOST}:{port}: MQTT 5, published and heard"
        wrong = await found(f"mqtt://aya:wrong@{HOST}:{port}")
        assert wrong.level is Level.ERROR and "refuses us" in wrong.says
        assert "user and password" in wrong.mend
        barred = await found(f"mqtt://aya:secret@{HOST}:{port}", prefix="closed")
        assert barred.level is Level.ERROR and "did not come back" in barred.says
        plain = await found(f"mqtts://aya:secret@{HOST}:{port}")
        assert plain.level is Level.ERROR and plain.mend


async def test_a_brokers_certificate_has_to_be_trusted(tmp_path: Path) -> None:
    certificate, key = pair(tmp_path, "own")
    key.chmod(0o644)
    async with mosquitto(tmp_path, f"certfile {certificate}", f"keyfile {key}") as port:
        it = await found(f"mqtts://aya:secret@{HOST}:{port}")
    assert it.level is Level.ERROR and "certificate is not trusted" in it.says


async def test_an_older_broker_is_spoken_to_in_its_own_protocol() -> None:
    async with Broker(0, Kind.AMQTT) as own:
        it = await found(own.url)
    assert it.level is Level.OK and "MQTT 3.1.1, published and heard" in it.says


async def test_nothing_is_left_with_the_broker_and_a_node_of_this_name_stays() -> None:
    async with Broker(0, Kind.MOSQUITTO) as own, listening(own.address) as listener:
        it = await found(own.url)
        assert it.level is Level.OK
        (heard,) = listener.heard  # the one message: no will, nothing kept
        assert heard.topic == "open/1/a/doctor"
        async with listening(own.address, "open/#") as later:
            await asyncio.sleep(0.2)
            assert later.heard == []


async def test_who_is_absent_silent_or_no_broker_is_an_error_within_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    absent = await found(f"mqtt://{HOST}:{free_port()}")
    assert absent.says.endswith("nobody listens there")
    monkeypatch.setattr(mqtt, "ANSWER_S", 0.3)
    with socket.create_server((HOST, 0)) as silent:
        mute = await found(f"mqtt://{HOST}:{silent.getsockname()[1]}")
    assert "no MQTT" in mute.says
    assert absent.level is mute.level is Level.ERROR and absent.mend and mute.mend
