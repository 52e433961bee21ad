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

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "gpu_check"

needs_no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="tells of a missing GPU")


def loaded() -> ModuleType:
    loader = SourceFileLoader("gpu_check", str(SCRIPT))
    spec = spec_from_loader("gpu_check", loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


@needs_no_gpu
def test_it_needs_torch_and_numpy_alone_and_says_that_it_needs_cuda(tmp_path: Path) -> None:
    for name in ("av", "aiortc", "aiohttp", "click", "safetensors", "aiomqtt", "amqtt"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('not in this environment')")
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--batches", "150"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["ok"] and "needs CUDA" in report["note"]
    assert report["capture"]["skipped"] == "needs CUDA"
    fills = report["fills"]
    assert fills["batches"] == 150 and fills["rows_filled"] > 0 and fills["shapes"] == 1
    assert fills["rows_not_equal_to_the_bit"] == fills["rows_of_another_picture"] == 0
    assert report["arena"]["copies_equal"] and report["arena"]["killed_by"] == 9


def test_a_part_that_fails_is_told_and_ends_with_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = loaded()
    monkeypatch.setattr(module, "PARTS", {"nonsense": module.fills})
    monkeypatch.setattr(sys, "argv", ["gpu_check"])
    assert module.main() == 1
    report = json.loads(capsys.readouterr().out)
    assert not report["ok"] and "exit code 2" in report["nonsense"]["error"]


@needs_no_gpu
def test_fills_finds_a_row_of_somebody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    module = loaded()
    alone = module.alone
    monkeypatch.setattr(module, "alone", lambda *args: alone(*args) // 2)
    result = module.fills(20)
    assert not result["ok"] and result["rows_of_another_picture"] > 0
