"""From a model's name to a model that is ready to run."""

from __future__ import annotations

import importlib
import os
import re
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn
from torch.export import ExportedProgram
from torch.export.passes import move_to_device_pass

from workers.errors import ModelError, SettingsError
from workers.geometry import Geometry
from workers.models.adapters import Exported, as_avatar
from workers.models.api import AvatarModel
from workers.models.mirror import Mirror
from workers.models.puppet import Puppet
from workers.models.toon import Toon
from workers.told import told

BUILT_IN: dict[str, Callable[[], AvatarModel]] = {
    "mirror": Mirror,
    "puppet": Puppet,
    "toon": Toon,
}


def load_model(name: str, device: torch.device) -> AvatarModel:
    """The model, on the device, in eval mode, without gradients.

    name: a built-in's, `package.module:factory` (the current directory's modules too; the factory
    takes no arguments and returns an `nn.Module`), or the path of a `torch.export` file, `.pt2`.
    A module that is no `AvatarModel` goes through `as_avatar`. Raises ModelError, in one line.
    """
    if name in BUILT_IN:
        model = BUILT_IN[name]()
    elif name.endswith(".pt2"):
        model = _from_export(name, device)
    elif re.fullmatch(r"\w+(\.\w+)*:\w+", name):
        model = as_avatar(_from_factory(name))
    else:
        raise ModelError(
            f"model {name!r} is unknown: pass {', '.join(sorted(BUILT_IN))}, "
            "package.module:factory or a .pt2 file"
        )
    try:
        return model.requires_grad_(False).eval().to(device)
    except Exception as error:
        raise ModelError(
            f"model {name!r} does not go to {device}: {told(error)}: choose another --device"
        ) from error


# ---------------------------------------------------------------- package.module:factory


def _from_factory(name: str) -> nn.Module:
    module_name, _, attribute = name.partition(":")
    factory = _find_factory(name, module_name, attribute)
    try:
        module = factory()
    # A factory that calls sys.exit() must not end us in silence.
    except (Exception, SystemExit) as error:
        raise ModelError(
            f"model {name!r} failed in its factory: {told(error)}: mend {attribute}()"
        ) from error
    if not isinstance(module, nn.Module):
        raise ModelError(
            f"model {name!r} made a {type(module).__name__}, not an nn.Module: "
            f"let {attribute}() return one"
        )
    return module


def _find_factory(name: str, module_name: str, attribute: str) -> Callable[[], object]:
    module = _import(name, module_name)
    factory = getattr(module, attribute, None)
    if factory is None:
        raise ModelError(
            f"model {name!r} is not there: {module_name} has no {attribute!r}: "
            "name a function or a class of it"
        )
    if isinstance(factory, nn.Module):
        raise ModelError(
            f"model {name!r} is a module, not a factory: name a function that returns it"
        )
    if not callable(factory):
        raise ModelError(
            f"model {name!r} is a {type(factory).__name__}, not a factory: "
            "name a function that returns an nn.Module"
        )
    return factory  # type: ignore[no-any-return]  # callable() narrows to an untyped call


def _import(name: str, module_name: str) -> object:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(error.name + ".")):
            raise ModelError(
                f"model {name!r} is not there: no module {error.name!r} here or installed: "
                "start from its directory or install it"
            ) from error
        raise ModelError(
            f"model {name!r} needs the module {error.name!r}, which is not installed: install it"
        ) from error
    except (Exception, SystemExit) as error:
        raise ModelError(
            f"model {name!r} failed on import: {told(error)}: mend {module_name}"
        ) from error


# ----------------------------------------------------------------------- .pt2


def _from_export(name: str, device: torch.device) -> Exported:
    program = _read_export(name)
    batch_size, geometry = _input_of(name, program)
    try:
        # Not module.to() alone: the graph names the device of each tensor that it makes.
        module = move_to_device_pass(program, device).module()
    except Exception as error:
        raise ModelError(
            f"model {name!r} does not go to {device}: {told(error)}: export it for that device"
        ) from error
    return Exported(module, batch_size, geometry)


def _read_export(name: str) -> ExportedProgram:
    path = Path(name)
    if not path.is_file():
        raise ModelError(f"model {name!r} is not there: no such file: check the path")
    try:
        _refuse_objects(name, path)
        with _weights_only():
            return torch.export.load(path)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(
            f"model {name!r} cannot be loaded: {told(error)}: "
            "write it with torch.export.save, of this version of torch"
        ) from error


def _refuse_objects(name: str, path: Path) -> None:
    # torch.export.load unpickles these with no check, and unpickling runs whatever they say.
    with zipfile.ZipFile(path) as archive:
        for entry in archive.namelist():
            if Path(entry).name.startswith(("custom_obj_", "opaque_obj_")):
                raise ModelError(
                    f"model {name!r} holds pickled objects ({entry}), which are not loaded: "
                    "export it with tensors alone"
                )


@contextmanager
def _weights_only() -> Iterator[None]:
    """torch.load takes tensors alone, also where torch.export.load asks it for more."""
    key = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(key)
    os.environ[key] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[key]
        else:
            os.environ[key] = before


def _input_of(name: str, program: ExportedProgram) -> tuple[int | None, Geometry | None]:
    """The batch and the geometry it was exported for; None where that is left open."""
    inputs = program.graph_signature.user_inputs
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    frames = values.get(str(inputs[0])) if len(inputs) == 1 else None
    if not isinstance(frames, torch.Tensor) or frames.dim() != 4 or frames.shape[1] != 3:
        raise ModelError(
            f"model {name!r} does not take one tensor (B, 3, H, W): "
            "export a module from frames to frames"
        )
    batch, _, height, width = frames.shape
    fixed = isinstance(height, int) and isinstance(width, int)
    try:
        geometry = Geometry(width, height) if fixed else None
    except SettingsError as error:
        raise ModelError(f"model {name!r} was exported for {width}x{height}: {error}") from error
    return (batch if isinstance(batch, int) else None), geometry
