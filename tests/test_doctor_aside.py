"""stream/doctor/aside.py: a look that hangs holds nothing up."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from stream.doctor.aside import aside

ROOT = Path(__file__).parent.parent


async def test_a_look_gives_or_raises_what_it_did() -> None:
    assert await aside(int, "7", base=8) == 7
    with pytest.raises(ValueError, match="invalid literal"):
        await aside(int, "x")


def test_a_look_that_hangs_does_not_keep_the_program() -> None:
    script = (
        "import asyncio, threading\n"
        "from stream.doctor.aside import aside\n"
        "async def main():\n"
        "    try:\n"
        "        await asyncio.wait_for(aside(threading.Event().wait), 0.05)\n"
        "    except TimeoutError:\n"
        "        print('given up')\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=30
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "given up\n", "")
