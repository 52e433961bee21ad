"""`omokage doctor`, the whole command on this machine, with what is amiss forced."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import resource
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from stream.doctor import examination, machine
from stream.doctor.finding import Level
from stream.doctor.report import TOPIC_WIDTH
from stream.settings import Settings, settings_table
from tests.fake_nvml import GPU, build, needs_compiler
from tests.server import free_port

ROOT = Path(__file__).parent.parent
PR_CAPBSET_DROP, CAP_IPC_LOCK = 24, 14
LOW_BYTES = 64 << 10


def run(*words: str, **given: Any) -> subprocess.CompletedProcess[str]:
    """Any: of subprocess.run. The broker's port is left open: others may be using 1883."""
    command = [sys.executable, "-m", "stream", "doctor", "--broker-port", "0", *words]
    given.setdefault("env", os.environ)
    return subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False, **given
    )


def lower_memlock() -> None:
    """In the child alone, before it runs: also where root may lock all it likes."""
    ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_IPC_LOCK, 0, 0, 0)
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (LOW_BYTES, LOW_BYTES))


def lines_of(text: str, topic: str) -> list[str]:
    return [it for it in text.splitlines() if it[9 : 9 + TOPIC_WIDTH].strip() == topic]


def test_a_missing_mosquitto_a_taken_port_and_a_low_memlock_are_named_with_their_mends(
    tmp_path: Path,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run(
            "--port", str(port),
            env={**os.environ, "PATH": str(tmp_path)},
            preexec_fn=lower_memlock,
        )  # fmt: skip
    assert done.returncode == 1 and done.stderr == ""
    (broker,) = lines_of(done.stdout, "broker")
    assert broker.startswith("warning") and "mosquitto is not installed" in broker
    assert broker.endswith(": apt-get install mosquitto, or pass --broker-url")
    (http,) = lines_of(done.stdout, "http")
    assert http.startswith("ERROR") and f"(process {os.getpid()})" in http
    assert f"port {port} is taken by " in http
    assert http.endswith(": stop its owner or pass --port")
    (memlock,) = lines_of(done.stdout, "memlock")
    assert memlock.startswith("warning") and "0.0655 MB, less than the arena's" in memlock
    assert "ulimit -l unlimited" in memlock
    assert done.stdout.splitlines()[-1].startswith("1 error, ")


def test_a_machine_that_is_ready_is_told_so_as_json_and_left_as_it_was(tmp_path: Path) -> None:
    state, port = tmp_path / "state", free_port()
    words = ("--json", "--https", "--host", "127.0.0.1", "--port", str(port), "--device", "cpu")
    done = run(*words, env={**os.environ, "XDG_STATE_HOME": str(state)})
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert told["ready"] is True
    by_topic = {it["topic"]: it for it in told["findings"]}
    assert set(by_topic) >= {"python", "torch", "gpu", "device", "memlock", "memory",
                             "descriptors", "model", "H264", "VP8", "NVENC", "NVDEC", "http",
                             "broker port", "broker", "certificate", "ice", "storage",
                             "clock"}  # fmt: skip
    assert all(it["level"] != "error" for it in told["findings"])
    assert all(it["mend"] for it in told["findings"] if it["level"] == "warning")
    assert by_topic["H264"]["says"] == by_topic["VP8"]["says"] == "5 frames encoded and decoded"
    assert by_topic["device"]["says"] == "--device cpu serves on cpu (CPU)"
    assert str(state) in by_topic["certificate"]["says"]
    assert not state.exists()
    with socket.create_server(("127.0.0.1", port)):
        pass  # the port was given back


def test_its_help_names_every_flag_of_serve() -> None:
    done = run("--help")
    assert done.returncode == 0
    for flag in (*(it.flag for it in settings_table()), "--config", "--json"):
        assert f"{flag} " in done.stdout
    assert "Exit codes: 0 ready" in done.stdout


def test_it_takes_the_settings_of_serve_from_wherever_they_come(tmp_path: Path) -> None:
    file = tmp_path / "omokage.toml"
    file.write_text(f"port = {free_port()}\ngeometry = '64x64'")
    done = run("--config", str(file), env={**os.environ, "OMOKAGE_MAX_SESSIONS": "3"})
    assert "3 sessions of 64x64" in done.stdout
    refused = run("--port", "many")
    assert refused.returncode == 2
    assert refused.stderr == "omokage: --port many is no whole number: pass 0 to 65535, 0 being any free one\n"  # noqa: E501  # fmt: skip


async def test_one_look_that_fails_or_hangs_is_a_finding_among_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def hang(device: str) -> machine.Torch:
        await asyncio.sleep(600)
        raise AssertionError

    def fail() -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(examination, "MACHINE_S", 1.5)
    monkeypatch.setattr(machine, "ask_torch", hang)
    monkeypatch.setattr(examination.codecs, "look", fail)
    began_s = time.monotonic()
    findings = await examination.examine(Settings(port=0, broker_port=0))
    assert time.monotonic() - began_s < 10
    errors = {it.topic: it.says for it in findings if it.level is Level.ERROR}
    assert errors == {
        "machine": "no end within 2 s",
        "codecs": "it could not be looked at (RuntimeError: a bug)",
    }
    assert {"http", "broker", "clock"} <= {it.topic for it in findings}


@needs_compiler
def test_a_gpu_is_found_by_the_drivers_own_library(tmp_path: Path) -> None:
    build(tmp_path)
    libraries = {"LD_LIBRARY_PATH": str(tmp_path), "FAKE_NVML": str(tmp_path / "gpu")}
    done = run("--json", env={**os.environ, **libraries})
    by_topic = {it["topic"]: it for it in json.loads(done.stdout)["findings"]}
    assert by_topic["gpu"]["says"] == (
        "Fake GPU, 6.0 of 8.0 GiB free, driver 580.65.06 for CUDA 13.0"
    )
    assert GPU not in done.stdout  # who reads a report need not know a machine's serial numbers
    if "built for CPUs" in by_topic["torch"]["says"]:
        assert by_topic["device"]["level"] == "warning"
        assert by_topic["device"]["mend"] == "install torch's build for CUDA"
