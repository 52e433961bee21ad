"""scripts/gpu_check: without a GPU it runs what needs none, with torch and numpy alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "scripts" / "gpu_check"
# torch, what it says that it needs ("Requires-Dist"), and numpy.
NEEDED = {
    *("torch", "torchgen", "functorch", "triton", "nvidia", "numpy", "numpy.libs"),
    *("sympy", "mpmath", "networkx", "jinja2", "markupsafe", "fsspec", "filelock"),
    *("typing_extensions.py", "setuptools", "_distutils_hack"),
}

needs_no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="tells of a missing GPU")


def loaded() -> ModuleType:
    loader = SourceFileLoader("gpu_check", str(SCRIPT))
    spec = spec_from_loader("gpu_check", loader)
    assert spec is not None
    module = module_from_spec(spec)
    sys.modules["gpu_check"] = module  # a dataclass looks for its module
    loader.exec_module(module)
    return module


def lines_of(path: Path) -> dict[int, dict[str, object]]:
    lines = [json.loads(text) for text in path.read_text().splitlines()]
    return {line["measure"]: line for line in lines}


@needs_no_gpu
def test_it_needs_torch_and_numpy_alone_and_says_what_needs_a_gpu(tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    here = Path(torch.__file__).parent.parent
    for name in NEEDED:
        if (here / name).exists():
            (bare / name).symlink_to(here / name)
    # Not this environment's interpreter: it would find its other packages.
    done = subprocess.run(
        [sys._base_executable, str(SCRIPT), "--scale", "0.05", "--only", "3,4,9"],
        env={**os.environ, "PYTHONPATH": str(bare), "PYTHONNOUSERSITE": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = lines_of(tmp_path / "gpu_check.jsonl")
    assert [*lines] == [0, 4, 3, 9]  # those that matter first
    assert lines[0]["state"] == "ran"
    assert {lines[number]["state"] for number in (3, 4, 9)} == {"needs a GPU"}
    fills = lines[4]["figures"]
    assert isinstance(fills, dict) and fills["batches"] == 100 and fills["rows_filled"] > 0
    assert fills["rows_not_equal_to_the_bit"] == fills["rows_of_another"] == 0
    page = (tmp_path / "gpu_check.md").read_text()
    assert page.startswith("**No GPU was at hand") and "| 4 | isolation |" in page
    assert "Nothing yet: that needs a GPU" in page


@pytest.mark.parametrize(
    ("body", "state", "says"),
    [
        ("raise ValueError('no such thing')", "crashed", "exit code 1: ValueError: no such thing"),
        ("os.kill(os.getpid(), 11)", "killed", "killed by signal 11"),
        ("time.sleep(60)", "hung", "not over after 3 s"),
        ("os._exit(0)", "crashed", "it ended and said nothing"),
    ],
)
def test_a_measure_that_breaks_is_a_line_of_the_table_and_not_the_end(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    body: str,
    state: str,
    says: str,
) -> None:
    module = loaded()
    child = tmp_path / "child.py"
    child.write_text(
        "import json, os, sys, time\n"
        "print(json.dumps({'so_far': {'half': 1}}), flush=True)\n"
        "if sys.argv[2] == '0':\n"
        "    print(json.dumps({'state': 'ran', 'says': 'fine', 'figures': {}}))\n"
        "else:\n"
        f"    {body}\n"
    )
    monkeypatch.setattr(module, "__file__", str(child))
    monkeypatch.setattr(module, "LEAST_S", 1.0)
    plans = {number: module.PLANS[number] for number in (4, 0)}
    short = {number: module.Plan(it.name, it.bar, 3) for number, it in plans.items()}
    monkeypatch.setattr(module, "PLANS", short)
    where = tmp_path / "lines.jsonl", tmp_path / "table.md"
    assert module.check((4, 0), 1.0, *where) == 1
    lines = lines_of(where[0])
    assert lines[4]["state"] == state and says in str(lines[4]["says"])
    assert lines[4]["figures"] == {"half": 1}  # what it told before
    assert lines[0]["state"] == "ran"
    page = where[1].read_text()
    assert f"**{state}**" in page and "A broken promise: isolation" in page


def test_when_the_ten_minutes_are_over_the_rest_is_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    module = loaded()
    monkeypatch.setattr(module, "IN_ALL_S", 0.0)
    where = tmp_path / "lines.jsonl", tmp_path / "table.md"
    assert module.check((12, 13), 1.0, *where) == 0
    assert {line["state"] for line in lines_of(where[0]).values()} == {"left out"}


@pytest.fixture
def measures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))


@needs_no_gpu
def test_isolation_finds_a_row_of_somebody_else(
    monkeypatch: pytest.MonkeyPatch, measures: None
) -> None:
    from gpu_measures import isolation
    from gpu_measures.measure import Ask

    alone = isolation.alone
    monkeypatch.setattr(isolation, "alone", lambda *asked: alone(*asked) // 2)
    found = isolation.isolation(Ask(on_gpu=False, scale=0.02))
    assert found.kept is False and "foreign or fill pixels" in found.says


def arm(extra_mib: int, first_ms: float, new: int, last_ms: float) -> dict[str, object]:
    return {
        "first_extra_bytes": extra_mib << 20,
        "steady_reserved_bytes": 400 << 20,
        "first_ms": first_ms,
        "p50_ms": 10.0,
        "last_new_device_allocations": new,
        "last_ms": last_ms,
    }


def arms(short: dict[str, object], filled: dict[str, object]) -> dict[str, dict[str, object]]:
    return {
        f"benchmark {state}, last {last}": figures
        for state in ("on", "off")
        for last, figures in (("short", short), ("filled", filled))
    }


def test_the_claims_are_judged_whichever_way_the_figures_fall(measures: None) -> None:
    from gpu_measures.article import judged

    calm, disturbed = arm(0, 20, 0, 10), arm(0, 20, 3, 700)
    first, on, off = judged(arms(short=disturbed, filled=calm))
    assert "It does not hold here" in first and "It holds here" in on and "It holds here" in off
    assert "short 3 new device allocations and 70.0 ×" in on and "filled 0 and 1.0 ×" in on
    assert "It does not show here" in judged(arms(short=calm, filled=calm))[1]
    assert "Half of it" in judged(arms(short=disturbed, filled=disturbed))[1]
    tuned = arms(short=arm(900, 900, 0, 10), filled=arm(900, 900, 0, 10))
    assert "not by tuning" in judged(tuned)[0]
    for name in tuned:
        if "off" in name:
            tuned[name] = calm
    assert "It holds here: over the 400 MiB that stay it took 900 MiB" in judged(tuned)[0]
