"""What a CUDA graph refuses, watched for operation by operation as a model runs without CUDA.

A stand-in plays the device: `meta` in a run of fakes, where host and device are told apart, and
`cpu` in a run of real tensors, where they are not but every operation exists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# Any, below: torch's modes are handed whatever a model calls, with whatever it passes.

HOST_READS = {
    "item": ".item()",
    "tolist": ".tolist()",
    "numpy": ".numpy()",
    "cpu": ".cpu()",
    "__array__": "numpy.asarray(tensor)",
    "__bool__": "if tensor",
    "__float__": "float(tensor)",
    "__int__": "int(tensor)",
    "__complex__": "complex(tensor)",
    "__index__": "a tensor as an index of Python's",
    "__contains__": "in tensor",
    "__format__": "a tensor in an f-string",
    "__repr__": "printing a tensor",
    "is_nonzero": "is_nonzero",
}
FROM_VALUES = {"tensor", "as_tensor", "asarray", "frombuffer"}
FACTORIES = {
    *("arange", "range", "linspace", "logspace", "eye", "empty", "zeros", "ones", "full"),
    *("rand", "randn", "randint", "randperm", "normal", "tril_indices", "triu_indices"),
    *("hann_window", "hamming_window", "bartlett_window", "blackman_window", "kaiser_window"),
    *("fft_fftfreq", "fft_rfftfreq"),
}
# These wait for the device inside, where no mode can see it: the solver's status, a check of the
# weights, a count of what was found.
WAITS_INSIDE = {
    *("_linalg_svd", "_linalg_eigh", "linalg_eig", "_linalg_eigvals", "linalg_eigvals"),
    *("linalg_lstsq", "linalg_pinv", "linalg_matrix_exp", "_linalg_check_errors"),
    *("multinomial", "_pin_memory"),
}
OWN_NAMESPACES = {"aten", "prims", "prim", "higher_order"}

MOVES = "moves data between host and device"
READS = "waits for the device to read a value on the host"
BUILDS = "builds a tensor on the host"
WAITS = "waits for the device"
OTHERWISE = "differs between two runs, and a graph would replay the first for ever"
UNKNOWN_SHAPE = "has a shape that depends on the data, so the host must wait for it"
# Functions that no mode is asked about.
UNSEEN = (
    (torch.cuda, "synchronize", "torch.cuda.synchronize", WAITS),
    (torch.cuda, "empty_cache", "torch.cuda.empty_cache", "frees device memory"),
    (torch.cuda.Stream, "synchronize", "torch.cuda.Stream.synchronize", WAITS),
    (torch.cuda.Event, "synchronize", "torch.cuda.Event.synchronize", WAITS),
    (torch.cuda.Event, "query", "torch.cuda.Event.query", "asks the device"),
    (torch.accelerator, "synchronize", "torch.accelerator.synchronize", WAITS),
    (torch, "from_numpy", "torch.from_numpy", BUILDS),
)


class Refused(BaseException):
    """A CUDA graph would refuse this operation. No Exception: a model must not swallow it."""

    def __init__(self, operation: str, why: str) -> None:
        super().__init__(operation, why)
        self.operation = operation
        self.why = why


class Ran(NamedTuple):
    """An operation, as it ran."""

    name: str
    shapes: tuple[torch.Size, ...]  # of what came out
    numbers: tuple[str, ...]  # of Python's that went in
    called: str


class Watch:
    """Looks at all that runs inside its `with`; raises Refused at the first bad operation.

    ran: what ran, in order. before: what ran in another run, from which this one must not differ.
    """

    def __init__(self, stand_in: torch.device, before: Sequence[Ran] | None = None) -> None:
        self.stand_in = stand_in
        self.ran: list[Ran] = []
        self._before = before
        self.warnings: dict[str, None] = {}  # an ordered set
        self.called: str | None = None  # what the model called last, and is inside of
        self.dispatched: str | None = None  # what ran last
        self.may_mask = False  # a boolean mask is being filled, which needs no look at it
        self.may_check = False  # a check on values that CUDA leaves out

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with ExitStack() as stack:
            for owner, name, operation, why in UNSEEN:
                stack.enter_context(_replaced(owner, name, _refusing(operation, why)))
            # A fake's own asks for .item() of each element, which would then be blamed.
            stack.enter_context(_replaced(FakeTensor, "tolist", Tensor.tolist))
            stack.enter_context(_Calls(self))
            stack.enter_context(_Operations(self))
            yield
        if self._before is not None and len(self.ran) < len(self._before):
            raise Refused(self._before[len(self.ran)].called, OTHERWISE)

    def note(self, name: str, result: object, given: object) -> None:
        """An operation has run. Raises Refused where another did, in the run before."""
        shapes = tuple(it.shape for it in tree_leaves(result) if isinstance(it, Tensor))
        numbers = tuple(repr(it) for it in tree_leaves(given) if isinstance(it, int | float))
        now = Ran(name, shapes, numbers, self.called or name)
        self.ran.append(now)
        if self._before is None:
            return
        then = self._before[len(self.ran) - 1] if len(self.ran) <= len(self._before) else None
        if then is None or (then.name, then.shapes) != (now.name, now.shapes):
            raise Refused(now.called.strip("_"), OTHERWISE)
        if then.numbers != now.numbers:
            self.warnings[f"a number that {now.called} is given {OTHERWISE}"] = None

    def is_on_device(self, value: object) -> bool:
        return isinstance(value, Tensor) and value.device.type == self.stand_in.type

    @property
    def tells_host_from_device(self) -> bool:
        return self.stand_in.type != "cpu"


class _Calls(TorchFunctionMode):
    """What the model calls, by name: reads that dispatch nothing, tensors born on the host."""

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self._watch = watch

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        watch = self._watch
        name = getattr(function, "__name__", str(function))
        args = tuple(_retargeted(value, watch.stand_in) for value in args)
        named = {k: _retargeted(value, watch.stand_in) for k, value in (kwargs or {}).items()}
        if name == "cuda":  # where it already is
            return args[0]
        self._refuse_by_name(name, args, named)
        with self._as_called(name, args, named):
            result = function(*args, **named)
        if not any(isinstance(value, Tensor) for value in args):  # else it is born where they are
            self._refuse_birth(name, named, result)
        return result

    def _refuse_by_name(self, name: str, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        watch = self._watch
        if name in HOST_READS and args and watch.is_on_device(args[0]):
            raise Refused(HOST_READS[name], READS)
        if name == "pin_memory" or named.get("pin_memory"):
            raise Refused("pin_memory", "allocates pinned memory")
        if name == "to" and watch.is_on_device(args[0]) and watch.tells_host_from_device:
            asked = named.get("device", args[1] if len(args) > 1 else None)
            if isinstance(asked, str | torch.device) and torch.device(asked).type == "cpu":
                raise Refused(".to('cpu')", READS)
        if name in {"__getitem__", "__setitem__"} and watch.is_on_device(args[0]):
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            for part in index:
                if isinstance(part, list | np.ndarray):
                    kind = "list" if isinstance(part, list) else "numpy"
                    raise Refused(f"a {kind} index", MOVES)

    @contextmanager
    def _as_called(self, name: str, args: tuple[Any, ...], named: dict[str, Any]) -> Iterator[None]:
        watch = self._watch
        before = watch.called, watch.may_mask, watch.may_check
        watch.called = name
        # A number into a mask becomes masked_fill on CUDA.
        watch.may_mask = name == "__setitem__" and isinstance(args[2], int | float)
        # one_hot looks at its values on a CPU only, unless it must count the classes itself.
        classes = named.get("num_classes", args[1] if len(args) > 1 else -1)
        watch.may_check = name == "one_hot" and classes >= 0
        try:
            yield
            watch.called = before[0]  # after an error it tells what failed
        finally:
            watch.may_mask, watch.may_check = before[1:]

    def _refuse_birth(self, name: str, named: dict[str, Any], result: object) -> None:
        if not isinstance(result, Tensor):
            return
        asked = named.get("device")
        if name in FROM_VALUES and (result.dim() or asked is not None):
            raise Refused(f"torch.{name}", BUILDS)
        # Without an axis it is a number, which a kernel takes along.
        if name in FACTORIES and asked is None and result.dim() and named.get("out") is None:
            raise Refused(f"torch.{name} without a device", BUILDS)


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]  # untyped in torch
    """What runs below, also inside what torch composes of several operations."""

    def __init__(self, watch: Watch) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # untyped in torch
        self._watch = watch

    def __torch_dispatch__(
        self,
        function: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = dict(kwargs or {})
        self._watch.dispatched = _short(function)
        self._look(function, args, named)
        result = function(*args, **named)
        self._watch.note(_short(function), result, (args, named))
        return result

    def _look(self, function: Any, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        watch = self._watch
        name = _short(function)
        namespace = getattr(function, "namespace", "aten")
        if namespace not in OWN_NAMESPACES:
            watch.warnings[f"{namespace}::{name} is not torch's own: nobody looked inside"] = None
        if name == "lift_fresh" and args[0].dim():
            called = watch.called or "a tensor of values"
            raise Refused(f"torch.{called}" if called in FROM_VALUES else called, BUILDS)
        if name in {"_to_copy", "copy", "copy_"} and watch.tells_host_from_device:
            self._look_at_copy(name, args, named)
        # Every attention may draw; one without dropout does not.
        if torch.Tag.nondeterministic_seeded in function.tags and "attention" not in name:
            watch.warnings[f"{watch.called or name} draws random numbers in every frame"] = None
        if not any(watch.is_on_device(leaf) for leaf in tree_leaves((args, named))):
            return
        if name in WAITS_INSIDE:
            self._refuse(name, WAITS + " inside")
        if name in {"index", "_unsafe_index", "index_put", "index_put_", "_index_put_impl_"}:
            self._look_at_indices(name, args[0], args[1])
        elif torch.Tag.dynamic_output_shape in function.tags:
            self._refuse(name, UNKNOWN_SHAPE)
        elif torch.Tag.data_dependent_output in function.tags and not watch.may_check:
            self._refuse(name, READS)
        if name == "histc" and (len(args) < 4 or args[2] == args[3]):
            self._refuse(name, "without bounds " + READS)

    def _look_at_indices(self, name: str, into: Tensor, indices: Any) -> None:
        for index in indices:
            if not isinstance(index, Tensor):
                continue
            if index.dtype in (torch.bool, torch.uint8) and not self._watch.may_mask:
                raise Refused("a boolean mask as an index", UNKNOWN_SHAPE)
            if index.device != into.device:
                raise Refused("an index on the host", MOVES)

    def _look_at_copy(self, name: str, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        source = args[1] if name != "_to_copy" else args[0]
        target = args[0].device if name != "_to_copy" else named.get("device") or source.device
        if isinstance(source, Tensor) and source.device.type != torch.device(target).type:
            self._refuse(name, MOVES)

    def _refuse(self, name: str, why: str) -> None:
        called = self._watch.called
        own = name.strip("_")
        raise Refused(called.strip("_") if called and called.strip("_") != own else own, why)


def _short(function: Any) -> str:
    """`add` of aten.add.Tensor."""
    parts = str(function).split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def _retargeted(value: Any, stand_in: torch.device) -> Any:
    """A device that a model names as CUDA is, here, the stand-in."""
    if isinstance(value, torch.device) and value.type == "cuda":
        return stand_in
    return stand_in if isinstance(value, str) and value.split(":")[0] == "cuda" else value


@contextmanager
def _replaced(owner: object, name: str, value: object) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def _refusing(operation: str, why: str) -> Callable[..., None]:
    def refuse(*args: object, **kwargs: object) -> None:
        raise Refused(operation, why)

    return refuse
