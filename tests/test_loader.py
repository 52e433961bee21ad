"""The loader: every way to name a model, and one clear line for every way to get it wrong."""

from __future__ import annotations

import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from workers.errors import ModelError
from workers.geometry import Geometry
from workers.models.adapters import as_avatar
from workers.models.api import AvatarModel, Control
from workers.models.loader import load_model
from workers.models.mirror import Mirror
from workers.models.toon import Toon

CPU = torch.device("cpu")
MODULE = """
import sys
import torch
from torch import nn
from workers.models.api import AvatarModel

class Invert(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
    def forward(self, x):
        return 1 - x

class Own(AvatarModel):
    def identity(self, portrait):
        return {"colour": portrait.mean((1, 2))}

class Needs(nn.Module):
    def __init__(self, path):
        super().__init__()

def fails():
    raise RuntimeError("no weights\\nhere")

def leaves():
    sys.exit(3)

def nothing():
    return None

ready = Invert()
number = 7
"""


class Spoken(nn.Module):
    """The interface, without its base class."""

    geometry = Geometry(32, 16)
    controls = {"gain": Control(0.0, 2.0, 1.0)}  # noqa: RUF012

    def initial_state(self) -> dict[str, Tensor]:
        return {"count": torch.zeros(())}

    def forward(self, frames, identity, state, controls, dt_s):  # type: ignore[no-untyped-def]
        gain = controls["gain"].view(-1, 1, 1, 1)
        return frames * gain, {"count": state["count"] + 1}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "avatar_of_mine.py").write_text(MODULE)
    monkeypatch.delitem(sys.modules, "avatar_of_mine", raising=False)
    return tmp_path


def run(model: AvatarModel, frames: Tensor) -> Tensor:
    controls = {n: torch.full((len(frames),), c.default) for n, c in model.controls.items()}
    answer: Tensor = model(frames, {}, model.initial_state(), controls, torch.ones(len(frames)))[0]
    return answer


def export(path: Path, module: nn.Module, batch: int = 2, dynamic: bool = False) -> Path:
    shapes = ({0: torch.export.Dim("batch")},) if dynamic else None
    frames = (torch.rand(batch, 3, 16, 32),)
    torch.export.save(torch.export.export(module.eval(), frames, dynamic_shapes=shapes), path)
    return path


def test_the_built_ins_load_by_name() -> None:
    assert isinstance(load_model("toon", CPU), Toon)
    mirror = load_model("mirror", CPU)
    assert isinstance(mirror, Mirror)
    frames = torch.rand(2, 3, 16, 32)
    assert torch.equal(run(mirror, frames), frames)
    assert not mirror.has_identity


def test_a_class_of_a_module_in_the_current_directory_is_a_factory(here: Path) -> None:
    model = load_model("avatar_of_mine:Invert", CPU)
    frames = torch.rand(2, 3, 16, 32)
    assert torch.equal(run(model, frames), 1 - frames)
    assert not model.training
    assert not any(weight.requires_grad for weight in model.parameters())
    assert (model.geometry, model.batch_size, model.has_identity) == (None, None, False)


def test_an_avatar_model_comes_as_it_is(here: Path) -> None:
    model = load_model("avatar_of_mine:Own", CPU)
    assert type(model).__name__ == "Own"
    assert model.has_identity


def test_a_module_that_speaks_the_interface_needs_no_base_class() -> None:
    model = as_avatar(Spoken())
    assert model.geometry == Geometry(32, 16)
    assert set(model.controls) == {"gain"}
    assert not model.has_identity
    assert set(model.initial_state()) == {"count"}
    frames = torch.rand(2, 3, 16, 32)
    assert torch.equal(run(model, frames), frames)


def test_an_exported_model_brings_its_batch_and_geometry(here: Path) -> None:
    module = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Sigmoid())
    model = load_model(str(export(here / "net.pt2", module)), CPU)
    assert (model.geometry, model.batch_size) == (Geometry(32, 16), 2)
    frames = torch.rand(2, 3, 16, 32)
    assert torch.allclose(run(model, frames), module(frames), atol=1e-6)
    assert model.eval() is model  # the engine asks again
    assert not any(weight.requires_grad for weight in model.parameters())


def test_an_exported_model_with_a_free_batch_takes_any(here: Path) -> None:
    path = export(here / "net.pt2", nn.Conv2d(3, 3, 3, padding=1), dynamic=True)
    model = load_model(str(path), CPU)
    assert (model.geometry, model.batch_size) == (Geometry(32, 16), None)
    assert run(model, torch.rand(5, 3, 16, 32)).shape == (5, 3, 16, 32)


def test_an_exported_model_goes_to_its_device_with_what_its_graph_makes(here: Path) -> None:
    class Ramp(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * torch.arange(32)

    model = load_model(str(export(here / "ramp.pt2", Ramp())), torch.device("meta"))
    answer = model.module(torch.empty(2, 3, 16, 32, device="meta"))
    assert answer.device.type == "meta"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "tune",
            "'tune' is unknown: pass mirror, puppet, toon, package.module:factory or a .pt2 file",
        ),
        ("net.pth", "is unknown"),
        ("no_such_module:make", "no module 'no_such_module'"),
        ("no_such.module:make", "no module 'no_such'"),
        ("avatar_of_mine.deeper:make", "no module 'avatar_of_mine.deeper'"),
        ("avatar_of_mine:make", "avatar_of_mine has no 'make'"),
        ("avatar_of_mine:", "is unknown"),
        (":make", "is unknown"),
        (".mine:make", "is unknown"),
        ("avatar_of_mine:fails", "RuntimeError: no weights here (avatar_of_mine.py:23)"),
        ("avatar_of_mine:leaves", "SystemExit: 3"),
        ("avatar_of_mine:Needs", "missing 1 required positional argument: 'path'"),
        ("avatar_of_mine:nothing", "made a NoneType, not an nn.Module"),
        ("avatar_of_mine:ready", "is a module, not a factory"),
        ("avatar_of_mine:number", "is a int, not a factory"),
        ("broken:make", "SyntaxError"),
        ("wants:make", "needs the module 'no_such_library'"),
        ("gone.pt2", "no such file"),
        ("text.pt2", "cannot be loaded"),
        ("other.pt2", "cannot be loaded"),
        ("pickled.pt2", "holds pickled objects"),
        ("two.pt2", "does not take one tensor (B, 3, H, W)"),
        ("grey.pt2", "does not take one tensor (B, 3, H, W)"),
        ("odd.pt2", "was exported for 33x16"),
    ],
)
def test_a_wrong_name_is_one_clear_line(here: Path, name: str, words: str) -> None:
    (here / "broken.py").write_text("def make(:")
    (here / "wants.py").write_text("import no_such_library")
    (here / "text.pt2").write_text("no archive")
    with zipfile.ZipFile(here / "other.pt2", "w") as archive:
        archive.writestr("readme", "not of torch")
    with zipfile.ZipFile(here / "pickled.pt2", "w") as archive:
        archive.writestr("net/data/constants/custom_obj_0", pickle.dumps(print))
    if name in {"two.pt2", "grey.pt2", "odd.pt2"}:
        two, grey, odd = (
            torch.rand(2, 3, 16, 32),
            torch.rand(2, 1, 16, 32),
            torch.rand(2, 3, 16, 33),
        )
        inputs = {"two.pt2": (two, two), "grey.pt2": (grey,), "odd.pt2": (odd,)}[name]

        class Add(nn.Module):
            def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
                return x if y is None else x + y

        torch.export.save(torch.export.export(Add(), inputs), here / name)
    with pytest.raises(ModelError) as raised:
        load_model(name, CPU)
    message = str(raised.value)
    assert words in message
    assert repr(name) in message
    assert "\n" not in message


def test_an_archive_cannot_run_code(here: Path) -> None:
    """A tensor's pickle inside a .pt2 that would call something is refused by torch.load."""

    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (here / "ran",))

    source = export(here / "net.pt2", nn.Conv2d(3, 3, 1))
    evil = here / "evil.pt2"
    torch.save(Evil(), here / "sample")
    with zipfile.ZipFile(source) as read, zipfile.ZipFile(evil, "w") as written:
        for entry in read.namelist():
            data = read.read(entry)
            if "sample_inputs" in entry:
                data = (here / "sample").read_bytes()
            written.writestr(entry, data)
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(str(evil), CPU)
    assert not (here / "ran").exists()


def test_a_device_that_is_not_there_is_named(here: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("CUDA is there")
    with pytest.raises(ModelError, match="does not go to cuda"):
        load_model("avatar_of_mine:Invert", torch.device("cuda"))


def test_torch_stays_out_of_what_the_stream_side_imports() -> None:
    code = (
        "import sys, workers.preparer_messages, workers.errors, workers.geometry\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
