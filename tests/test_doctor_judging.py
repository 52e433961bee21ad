"""What the doctor makes of facts: each with its severity and its mend."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from stream.certificate import kept_certificate
from stream.doctor import broker, certificate, clock, codecs, limits, machine, model, ports, storage
from stream.doctor.certificate import Certificate
from stream.doctor.codecs import Trial
from stream.doctor.finding import Finding, Level, error, ok, warning
from stream.doctor.limits import UNLIMITED, Limits
from stream.doctor.machine import Driver, Torch
from stream.doctor.report import as_lines
from stream.network import Ports
from stream.nvml import Gpu
from stream.settings import Settings
from tests.test_tls import pair
from workers.geometry import Geometry
from workers.models.loader import BUILT_IN

NOW = datetime(2026, 11, 24, tzinfo=UTC)
PLENTY = Limits(UNLIMITED, False, 32 << 30, 20_000)
SMALL = Settings(geometry=Geometry(256, 256))
CARD = Gpu("H100", "GPU-1", 80 << 30, 79 << 30)
HERE = Driver("580.65", (13, 0), (CARD,))
CUDA = Torch("2.13.0", "13.0", "cuda", "H100")
CPU = Torch("2.13.0+cpu", None, "cpu", "CPU")


def on(topic: str, findings: list[Finding]) -> Finding:
    (found,) = [it for it in findings if it.topic == topic]
    return found


# ---------------------------------------------------------------------- report


def test_a_report_has_a_line_each_and_ends_with_the_sum() -> None:
    found = [ok("a", "fine"), warning("b", "less", "do this"), error("c", "none", "do that")]
    first, second, third, fourth, last = as_lines([*found, error("d", "x", "y")])
    assert first.split() == ["ok", "a", "fine"]
    assert second.endswith("less: do this") and third.startswith("ERROR")
    assert fourth.endswith("x: y") and last == "2 errors, 1 warning"
    assert as_lines([ok("a", "fine")])[-1] == "ready"


# --------------------------------------------------------------------- machine


@pytest.mark.parametrize(
    ("device", "torch", "driver", "level", "mend"),
    [
        ("auto", CUDA, HERE, Level.OK, ""),
        ("auto", CPU, Driver(), Level.OK, ""),
        ("auto", CPU, HERE, Level.WARNING, "install torch's build for CUDA"),
        ("cuda", replace(CPU, device=None, trouble="no CUDA"), HERE, Level.ERROR,
         "install torch's build for CUDA"),
        ("cuda", replace(CPU, device=None, trouble="no CUDA"), Driver(), Level.ERROR,
         "pass --device cpu, or install a GPU and its driver"),
        ("cuda", replace(CUDA, device=None, trouble="too old"), replace(HERE, cuda=(12, 4)),
         Level.ERROR, "update the driver, which runs CUDA 12.4 at most"),
        ("auto", replace(CUDA, device="cpu"), HERE, Level.WARNING, "CUDA_VISIBLE_DEVICES"),
    ],
)  # fmt: skip
def test_device_torch_and_driver_have_to_fit(
    device: str, torch: Torch, driver: Driver, level: Level, mend: str
) -> None:
    found = on("device", machine.judge(device, torch, driver))
    assert found.level is level and mend in found.mend


def test_a_driver_that_does_not_work_is_told_and_an_absent_one_is_no_fault() -> None:
    broken = on("gpu", machine.judge("auto", CPU, Driver(trouble="Driver/library mismatch")))
    assert broken.level is Level.WARNING and "mismatch" in broken.says
    assert on("gpu", machine.judge("auto", CPU, Driver())).level is Level.OK


def test_torch_must_be_there_and_new_enough() -> None:
    missing = machine.judge("auto", Torch(trouble="No module named 'torch'"), Driver())
    assert on("torch", missing).level is Level.ERROR
    old = on("torch", machine.judge("auto", replace(CPU, version="2.9.1"), Driver()))
    assert old.level is Level.ERROR and "2.11" in old.mend


# ----------------------------------------------------------------------- model


def test_a_model_s_name_has_to_lead_somewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ghost.py").write_text("raise SystemExit('nobody asked to run it')")
    (tmp_path / "there.pt2").write_bytes(b"")
    assert set(model.BUILT_IN) == set(BUILT_IN)
    for name in (*BUILT_IN, "ghost:Ghost", "email.mime:thing", "there.pt2"):
        assert model.judge(name).level is Level.OK
    for name, says in [
        ("tooon", "is unknown"),
        ("ghost:", "is unknown"),
        (":Ghost", "is unknown"),
        ("nosuch.part:Ghost", "no module 'nosuch' here or installed"),
        ("gone.pt2", "cannot be read (no such file or directory)"),
    ]:
        found = model.judge(name)
        assert found.level is Level.ERROR and says in found.says and found.mend


# ---------------------------------------------------------------------- limits


def test_memlock_is_held_against_the_arena_of_the_settings() -> None:
    # 16 sessions, 10 slots each, of 256 * 256 * 3 / 2 bytes
    arena = 16 * 10 * 98_304
    low = replace(PLENTY, memlock_bytes=arena - 1)
    for on_cuda in (False, True):
        found = on("memlock", limits.judge(SMALL, low, on_cuda=on_cuda))
        assert found.level is Level.WARNING and "ulimit -l" in found.mend
        assert ("CUDA only" in found.says) is not on_cuda
    enough = replace(low, memlock_bytes=arena)
    assert on("memlock", limits.judge(SMALL, enough, on_cuda=True)).level is Level.OK
    exempt = replace(low, may_lock_all=True)
    assert on("memlock", limits.judge(SMALL, exempt, on_cuda=True)).level is Level.OK


def test_on_cuda_the_arena_is_that_of_its_larger_default() -> None:
    assert "512x512" in on("memory", limits.judge(Settings(), PLENTY, on_cuda=True)).says
    assert "256x256" in on("memory", limits.judge(Settings(), PLENTY, on_cuda=False)).says


def test_an_arena_that_does_not_fit_is_an_error() -> None:
    found = on("memory", limits.judge(SMALL, replace(PLENTY, available_bytes=1000), on_cuda=False))
    assert found.level is Level.ERROR and "--max-sessions" in found.mend


@pytest.mark.parametrize(
    ("descriptors", "level"),
    [(256, Level.ERROR), (1024, Level.WARNING), (20_000, Level.OK), (UNLIMITED, Level.OK)],
)
def test_descriptors_have_to_do_for_sessions_and_should_for_viewers(
    descriptors: int, level: Level
) -> None:
    found = limits.judge(SMALL, replace(PLENTY, descriptors=descriptors), on_cuda=False)
    assert on("descriptors", found).level is level


# ----------------------------------------------------------------------- ports


@pytest.mark.parametrize(
    ("code", "says", "mend"),
    [
        (
            errno.EADDRINUSE,
            "port 80 is taken by nginx (process 7)",
            "stop its owner or pass --port",
        ),
        (errno.EACCES, "kept for the system", "--port above 1023"),
        (errno.EADDRNOTAVAIL, "no address of this machine", "0.0.0.0"),
        (errno.ENOBUFS, "cannot be listened on", "another --port"),
    ],
)
def test_a_port_that_is_not_to_be_had_is_an_error(code: int, says: str, mend: str) -> None:
    refused = OSError(code, os.strerror(code))
    found = ports.judge_port("http", "h:80", 80, refused, "--port", lambda _: "nginx (process 7)")
    assert found.level is Level.ERROR and says in found.says and mend in found.mend


def test_of_the_media_ports_each_session_needs_one() -> None:
    range_, nobody = Ports(50_000, 50_019), lambda port: None
    assert ports.judge_media(range_, [], 16, nobody).level is Level.OK
    assert ports.judge_media(range_, [50_001], 16, nobody).level is Level.WARNING
    few = ports.judge_media(range_, list(range(50_000, 50_005)), 16, lambda port: f"it on {port}")
    assert few.level is Level.ERROR and "50000 is taken by it on 50000" in few.says


# ---------------------------------------------------------------------- broker


@pytest.mark.parametrize(
    ("program", "said", "has_amqtt", "level"),
    [
        ("/usr/sbin/mosquitto", "mosquitto version 2.0.11", True, Level.OK),
        ("/usr/sbin/mosquitto", "mosquitto version 1.4.15", True, Level.ERROR),
        ("/usr/sbin/mosquitto", None, True, Level.ERROR),
        (None, None, True, Level.WARNING),  # the one in Python serves
        (None, None, False, Level.ERROR),
    ],
)
def test_an_embedded_broker_needs_a_program_that_runs(
    program: str | None, said: str | None, has_amqtt: bool, level: Level
) -> None:
    found = broker.judge_embedded(program, said, has_amqtt=has_amqtt)
    assert found.level is level and bool(found.mend) is (level is not Level.OK)


# ----------------------------------------------------------------- certificate

GIVEN = Certificate(NOW + timedelta(days=90), frozenset({"*.example.org", "192.0.2.1"}), 0o600)


def judged(it: Certificate, *hosts: str) -> list[Level]:
    files = Path("c"), Path("k")
    return [found.level for found in certificate.judge_given(it, hosts, *files, NOW)]


def test_a_given_certificate_should_last_name_its_hosts_and_hide_its_key() -> None:
    assert judged(GIVEN, "a.example.org", "192.0.2.1") == [Level.OK]
    assert judged(replace(GIVEN, ends=NOW + timedelta(days=3)), "192.0.2.1") == [Level.WARNING]
    assert judged(GIVEN, "192.0.2.2") == judged(GIVEN, "a.b.example.org") == [Level.WARNING]
    assert judged(replace(GIVEN, key_mode=0o644), "192.0.2.1") == [Level.WARNING]


def test_a_given_pair_that_does_not_serve_is_an_error_in_the_servers_words(tmp_path: Path) -> None:
    mine, key = pair(tmp_path, "mine")
    _, other = pair(tmp_path, "other")
    wrong = Settings(tls_cert=mine, tls_key=other)
    (found,) = certificate.look(wrong)
    assert found.level is Level.ERROR and "is not the key of" in found.says and found.mend
    over, its_key = pair(tmp_path, "over", ago=timedelta(days=400))
    (found,) = certificate.look(Settings(tls_cert=over, tls_key=its_key))
    assert found.level is Level.ERROR and "ended on" in found.says and found.mend == "renew it"
    key.chmod(0o640)
    (found,) = certificate.look(Settings(tls_cert=mine, tls_key=key))
    assert found.level is Level.WARNING and found.mend == f"chmod 600 {key}"


def test_our_own_certificate_is_looked_at_and_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    settings = Settings(https=True)
    (absent,) = certificate.look(settings)
    assert "to be made at first start" in absent.says and not list(tmp_path.iterdir())
    path, _ = kept_certificate(tmp_path / "omokage", ["elsewhere.example"], datetime.now(UTC))
    before = path.read_bytes()
    (other,) = certificate.look(settings)
    assert "will be made anew" in other.says and path.read_bytes() == before
    assert {absent.level, other.level} == {Level.OK}


def test_a_state_folder_that_cannot_be_is_an_error_for_https(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    (found,) = certificate.look(Settings(https=True))
    assert found.level is Level.ERROR and "XDG_STATE_HOME" in found.mend
    (kept,) = storage.look()
    assert kept.level is Level.WARNING


def test_plain_http_is_fine_on_this_machine_and_behind_a_proxy_only() -> None:
    beyond = Settings(host="0.0.0.0", insecure=True)
    assert certificate.judge_plain(Settings()).level is Level.OK
    assert certificate.judge_plain(beyond).level is Level.WARNING
    proxied = replace(beyond, advertise="https://box.example")
    assert certificate.judge_plain(proxied).level is Level.OK


# ------------------------------------------------------------------ the others


def test_a_codec_that_loses_frames_or_does_not_open_is_an_error() -> None:
    name = codecs.Codec.H264
    assert codecs.judge_software(name, Trial("H264", codecs.FRAMES)).level is Level.OK
    assert codecs.judge_software(name, Trial("H264", 3)).level is Level.ERROR
    assert codecs.judge_software(name, Trial("H264", 0, "unknown codec")).level is Level.ERROR


def test_hardware_codecs_are_told_as_they_are_and_not_needed() -> None:
    there = codecs.judge_hardware("NVENC", Trial("h264_nvenc", 5))
    absent = codecs.judge_hardware("NVENC", Trial("h264_nvenc", 0, "Cannot load libcuda.so.1"))
    assert there.says.startswith("it is here") and "Cannot load libcuda.so.1" in absent.says
    assert there.level is absent.level is Level.OK


def test_a_clock_before_its_programs_is_wrong_and_an_unwatched_one_a_warning() -> None:
    installed = NOW - timedelta(days=1)
    assert clock.judge(NOW, installed, True).level is Level.OK
    assert clock.judge(NOW, installed, None).level is Level.OK
    assert clock.judge(NOW, installed, False).level is Level.WARNING
    assert clock.judge(NOW, NOW + timedelta(days=1), True).level is Level.ERROR


def test_a_full_disk_is_told() -> None:
    assert storage.judge(Path("/s"), None, 10**7).level is Level.WARNING
    assert storage.judge(Path("/s"), None, 10**10).level is Level.OK
