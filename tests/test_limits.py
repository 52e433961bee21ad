"""How many viewers there may be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import resource, sys
from stream.limits import viewers_limit
resource.setrlimit(resource.RLIMIT_NOFILE, (256, int(sys.argv[1])))
print(viewers_limit(16), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.parametrize(("hard", "viewers"), [(4096, 416), (2048, 160), (512, 1)])
def test_viewers_get_what_the_descriptors_leave(hard: int, viewers: int) -> None:
    said = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(hard)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent.parent,
    ).stdout
    assert said.split() == [str(viewers), str(hard)]
