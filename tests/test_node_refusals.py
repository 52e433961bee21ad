"""What a user can mend is told in one line: a start that is refused leaves nothing behind."""

from __future__ import annotations

import os
import re
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from processes import marked
from server import TESTS

MODELS = {
    "raises_on_import": 'raise RuntimeError("the weights\\nare elsewhere")\n',
    "raises_in_forward": (
        "from torch import nn\n"
        "class Model(nn.Module):\n"
        "    def forward(self, frames):\n"
        "        return frames @ frames.new_zeros(3, 5)\n"
    ),
    "has_a_size": (
        "from torch import nn\n"
        "from workers.geometry import Geometry\n"
        "class Model(nn.Module):\n"
        "    geometry = Geometry(64, 64)\n"
        "    def forward(self, frames):\n"
        "        return frames\n"
    ),
    "finds_nobody": (
        "from workers.models.api import AvatarModel\n"
        "class Model(AvatarModel):\n"
        "    def identity(self, portrait):\n"
        '        raise ValueError("no face")\n'
        "    def forward(self, frames, identity, state, controls, dt_s):\n"
        "        return frames, {}\n"
    ),
}
SMALL = ("--geometry", "64x64", "--threads", "1")


@dataclass(frozen=True, slots=True)
class Refused:
    code: int
    line: str
    left: dict[int, str]  # processes of ours that are still there


def refused(tmp_path: Path, words: Sequence[str]) -> Refused:
    """Starts the server so; what it said. Other lines may only be news of what went well."""
    for name, text in MODELS.items():
        (tmp_path / f"{name}.py").write_text(text)
    mark = secrets.token_hex(8)
    environment = {
        **os.environ,
        "PYTHONPATH": f"{TESTS}:{tmp_path}",
        "CUDA_VISIBLE_DEVICES": "",
        "MARK": mark,
    }
    done = subprocess.run(
        [sys.executable, "-m", "stream", *words],
        capture_output=True, text=True, env=environment, cwd=TESTS.parent, timeout=20,
    )  # fmt: skip
    left = marked(mark)
    *before, last = done.stderr.splitlines()
    assert done.stdout == ""
    assert not [line for line in before if not re.match(r"\d\d:\d\d:\d\d INFO ", line)], done.stderr
    assert "Traceback" not in done.stderr
    return Refused(done.returncode, last, left)


def serving(*flags: str) -> list[str]:
    return ["serve", "--port", "0", "--broker-port", "0", *flags]


AT_ONCE = {
    "an unknown flag": (("--colour", "3"), "--colour.*--help"),
    "a value that is none": (("--port", "eighty"), "--port eighty.*: pass 0 to 65535"),
    "a choice that is none": (("--fill", "grey"), "--fill grey.*last"),
    "an unknown device": (("--device", "tpu"), "--device tpu.*: pass auto, cpu, cuda"),
    "a size that is none": (("--geometry", "63x63"), "--geometry.*63x63.*must be even"),
    "beyond loopback": (("--host", "0.0.0.0"), "--host 0.0.0.0 opens.*--token.*--insecure"),
    "a broker's URL that is none": (("--broker-url", "nonsense"), "--broker-url.*mqtt://"),
}
BY_THE_WORKER = {
    "an unknown model": (
        ("--model", "nosuch"),
        "model 'nosuch' is unknown: pass mirror, puppet, toon",
    ),
    "a model of a wrong shape": (
        ("--model", "avatars:WrongShape", *SMALL),
        r"model answered \(1, 3, 32, 32\).*due was \(1, 3, 64, 64\).*: return one picture",
    ),
    "a model that raises on import": (
        ("--model", "raises_on_import:Model"),
        "model 'raises_on_import:Model' failed.*RuntimeError: the weights are elsewhere.*: mend",
    ),
    "a model that raises in the warm-up": (
        ("--model", "raises_in_forward:Model", *SMALL),
        r"model failed on a batch of 1: RuntimeError: .*\(raises_in_forward.py:4\): mend",
    ),
    "a model that finds nobody in its own portrait": (
        ("--model", "finds_nobody:Model", *SMALL),
        r"model failed in identity: ValueError: no face \(finds_nobody.py:4\): mend",
    ),
    "CUDA where there is none": (
        ("--model", "mirror", "--device", "cuda"),
        "device 'cuda' is not there.*: pass --device cpu",
    ),
    "a size that is not the model's own": (
        ("--model", "has_a_size:Model", "--geometry", "128x128"),
        "64x64 only, --geometry asks for 128x128: leave --geometry out",
    ),
}


@pytest.mark.parametrize("words, says", AT_ONCE.values(), ids=AT_ONCE)
def test_a_wrong_setting_is_told_in_one_line(
    tmp_path: Path, words: Sequence[str], says: str
) -> None:
    found = refused(tmp_path, serving(*words))
    assert re.match(f"omokage: .*{says}", found.line), found.line
    assert found.code == 2 and not found.left


@pytest.mark.parametrize("words, says", BY_THE_WORKER.values(), ids=BY_THE_WORKER)
def test_what_the_worker_refuses_is_told_in_one_line(
    tmp_path: Path, words: Sequence[str], says: str
) -> None:
    found = refused(tmp_path, serving(*words))
    assert re.match(f"omokage: .*{says}", found.line), found.line
    assert found.code == 2 and not found.left


def test_an_unknown_key_in_the_file_is_told_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "omokage.toml"
    file.write_text('modle = "mirror"\n')
    found = refused(tmp_path, serving("--config", str(file)))
    assert found.line == f"omokage: {file} has an unknown setting modle: did you mean model?"
    assert found.code == 2 and not found.left


def test_an_unknown_command_is_told_in_one_line(tmp_path: Path) -> None:
    found = refused(tmp_path, ["sevre"])
    assert re.match("omokage: .*sevre", found.line), found.line
    assert found.code == 2 and not found.left


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as owner:
        owner.bind(("127.0.0.1", 0))
        owner.listen()
        yield owner.getsockname()[1]


@pytest.mark.parametrize("flag", ["--port", "--broker-port"])
def test_a_taken_port_is_told_in_one_line(tmp_path: Path, taken: int, flag: str) -> None:
    found = refused(tmp_path, serving(flag, str(taken)))
    mend = f"stop its owner or pass {flag}"
    assert found.line.startswith(f"omokage: port {taken} is taken: {mend}"), found.line
    assert found.code == 2 and not found.left
