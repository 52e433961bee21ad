"""What a GPU says of itself and of its errors: NVML, the driver's own library, by ctypes.

All that knows the C side is here. Symbols, codes and layouts: NVIDIA's nvml.h; its names are
stable across drivers, and what an older driver lacks counts as not supported.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import byref, c_char_p, c_int, c_uint, c_ulonglong, c_void_p
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

LIBRARY = "libnvidia-ml.so.1"
TEXT_BYTES = 96  # NVML_DEVICE_NAME_V2_BUFFER_SIZE and NVML_DEVICE_UUID_V2_BUFFER_SIZE
MOST_PROCESSES = 256

NOT_SUPPORTED, TIMEOUT = 3, 10
LOST = frozenset({15, 16})  # NVML_ERROR_GPU_IS_LOST, NVML_ERROR_RESET_REQUIRED
XID_EVENT = 0x8  # nvmlEventTypeXidCriticalError
UNKNOWN_BYTES = 0xFFFFFFFFFFFFFFFF  # NVML_VALUE_NOT_AVAILABLE, as a count of bytes
CORRECTED, UNCORRECTED, VOLATILE = 0, 1, 0  # of ECC errors, since the driver was loaded
CORE = 0  # NVML_TEMPERATURE_GPU

# nvmlClocksEventReason…: of all the reasons for a lower clock, those that are trouble.
SLOWDOWNS = {
    0x08: "hardware slowdown",
    0x20: "too warm (driver)",
    0x40: "too warm (hardware)",
    0x80: "power brake",
}

T = TypeVar("T")


class NvmlError(Exception):
    """What NVML refused, in its own words."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(words)
        self.code = code

    @property
    def is_loss(self) -> bool:
        """The GPU is gone, or will answer nobody before it is reset."""
        return self.code in LOST


@dataclass(frozen=True, slots=True)
class Gpu:
    name: str
    uuid: str
    total_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True)
class Reading:
    """A GPU at one instant; None or empty for what it does not tell."""

    used_bytes: int | None = None
    process_bytes: int | None = None  # of the process asked for
    processes: int | None = None  # that compute on it
    temperature_c: int | None = None
    slowdowns: tuple[str, ...] = ()
    ecc_corrected: int | None = None
    ecc_uncorrected: int | None = None


class _Memory(ctypes.Structure):
    _fields_ = (("total", c_ulonglong), ("free", c_ulonglong), ("used", c_ulonglong))


class _Process(ctypes.Structure):
    _fields_ = (
        ("pid", c_uint),
        ("used", c_ulonglong),
        ("gpu_instance", c_uint),
        ("compute_instance", c_uint),
    )


class _Event(ctypes.Structure):
    _fields_ = (
        ("device", c_void_p),
        ("type", c_ulonglong),
        ("data", c_ulonglong),
        ("gpu_instance", c_uint),
        ("compute_instance", c_uint),
    )


class Nvml:
    """The library, in use. A context manager. Any thread may call it; calls may take long."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library

    @classmethod
    def load(cls, path: str | None = None) -> Nvml | None:
        """None: there is no such library, so no driver. Raises NvmlError where it cannot work."""
        try:
            nvml = cls(ctypes.CDLL(path or LIBRARY))
        except OSError:
            return None
        nvml._call("nvmlInit_v2")
        return nvml

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._library.nvmlShutdown()

    def driver(self) -> str:
        text = ctypes.create_string_buffer(TEXT_BYTES)
        self._call("nvmlSystemGetDriverVersion", text, c_uint(TEXT_BYTES))
        return text.value.decode(errors="replace")

    def cuda(self) -> tuple[int, int]:
        """The newest CUDA that this driver runs."""
        number = c_int()
        self._call("nvmlSystemGetCudaDriverVersion_v2", byref(number))
        return number.value // 1000, number.value % 1000 // 10

    def gpus(self) -> list[Gpu]:
        count = c_uint()
        self._call("nvmlDeviceGetCount_v2", byref(count))
        return [self._gpu(index) for index in range(count.value)]

    def device(self, uuid: str) -> Device:
        handle = c_void_p()
        self._call("nvmlDeviceGetHandleByUUID", c_char_p(uuid.encode()), byref(handle))
        return Device(self, handle)

    def _gpu(self, index: int) -> Gpu:
        handle, memory = c_void_p(), _Memory()
        self._call("nvmlDeviceGetHandleByIndex_v2", c_uint(index), byref(handle))
        self._call("nvmlDeviceGetMemoryInfo", handle, byref(memory))
        name, uuid = (ctypes.create_string_buffer(TEXT_BYTES) for _ in range(2))
        self._call("nvmlDeviceGetName", handle, name, c_uint(TEXT_BYTES))
        self._call("nvmlDeviceGetUUID", handle, uuid, c_uint(TEXT_BYTES))
        return Gpu(name.value.decode(), uuid.value.decode(), memory.total, memory.free)

    def _call(self, name: str, *arguments: Any) -> None:  # Any: what ctypes takes
        function = getattr(self._library, name, None)
        code = NOT_SUPPORTED if function is None else int(function(*arguments))
        if code:
            raise NvmlError(code, self._words(code))

    def _words(self, code: int) -> str:
        self._library.nvmlErrorString.restype = c_char_p
        said = self._library.nvmlErrorString(c_int(code))
        return said.decode(errors="replace") if said else f"NVML error {code}"


class Device:
    """One GPU, to be asked again and again."""

    def __init__(self, nvml: Nvml, handle: c_void_p) -> None:
        self._nvml = nvml
        self._handle = handle

    def read(self, pid: int) -> Reading:
        """What it tells now; `pid`: whose memory is asked for. Raises NvmlError if it is lost."""
        memory = self._told(self._used_bytes)
        processes = self._told(self._processes)
        reasons = self._told(self._clock_reasons) or 0
        return Reading(
            used_bytes=memory,
            process_bytes=None if processes is None else processes.get(pid),
            processes=None if processes is None else len(processes),
            temperature_c=self._told(self._temperature_c),
            slowdowns=tuple(words for bit, words in SLOWDOWNS.items() if reasons & bit),
            ecc_corrected=self._told(lambda: self._ecc(CORRECTED)),
            ecc_uncorrected=self._told(lambda: self._ecc(UNCORRECTED)),
        )

    def events(self) -> XidEvents:
        """Its errors from now on. Raises NvmlError where it does not tell them."""
        return XidEvents(self._nvml, self._handle)

    def _told(self, ask: Callable[[], T]) -> T | None:
        try:
            return ask()
        except NvmlError as error:
            if error.is_loss:
                raise
            return None

    def _used_bytes(self) -> int:
        memory = _Memory()
        self._nvml._call("nvmlDeviceGetMemoryInfo", self._handle, byref(memory))
        return int(memory.used)

    def _processes(self) -> dict[int, int | None]:
        """By pid, as this process's own namespace may not know it: the memory each has."""
        found = (_Process * MOST_PROCESSES)()
        count = c_uint(MOST_PROCESSES)
        self._nvml._call(
            "nvmlDeviceGetComputeRunningProcesses_v3", self._handle, byref(count), found
        )
        return {
            it.pid: None if it.used == UNKNOWN_BYTES else int(it.used)
            for it in found[: count.value]
        }

    def _temperature_c(self) -> int:
        celsius = c_uint()
        self._nvml._call("nvmlDeviceGetTemperature", self._handle, c_uint(CORE), byref(celsius))
        return celsius.value

    def _clock_reasons(self) -> int:
        # Renamed to …ClocksEventReasons in 2023; drivers keep the older name, too.
        bits = c_ulonglong()
        self._nvml._call("nvmlDeviceGetCurrentClocksThrottleReasons", self._handle, byref(bits))
        return bits.value

    def _ecc(self, kind: int) -> int:
        count = c_ulonglong()
        self._nvml._call(
            "nvmlDeviceGetTotalEccErrors",
            self._handle, c_uint(kind), c_uint(VOLATILE), byref(count),
        )  # fmt: skip
        return count.value


class XidEvents:
    """A GPU's critical errors as they come. A context manager."""

    def __init__(self, nvml: Nvml, handle: c_void_p) -> None:
        self._nvml = nvml
        self._set = c_void_p()
        nvml._call("nvmlEventSetCreate", byref(self._set))
        try:
            nvml._call("nvmlDeviceRegisterEvents", handle, c_ulonglong(XID_EVENT), self._set)
        except BaseException:
            self._free()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._free()

    def wait(self, timeout_s: float) -> int | None:
        """The next error's number; None: none came meanwhile. Raises NvmlError."""
        event = _Event()
        try:
            self._nvml._call(
                "nvmlEventSetWait_v2", self._set, byref(event), c_uint(int(timeout_s * 1000))
            )
        except NvmlError as error:
            if error.code == TIMEOUT:
                return None
            raise
        return int(event.data)

    def _free(self) -> None:
        self._nvml._library.nvmlEventSetFree(self._set)
