"""What is worth telling of a GPU: which of its errors end a worker, what has got worse."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from stream.nvml import Reading
from workers.messages import Happened

GROWN_BYTES = 2 << 20  # less is the driver's own breathing
CALM_S = 30.0  # a slowdown comes and goes within seconds; after so long without, it is over
AGAIN_S = 60.0  # corrected errors are told no more often


class Reach(Enum):
    """Whose work an error ends."""

    NOBODY = "nobody"
    PROCESS = "process"  # the one process that caused it
    DEVICE = "device"  # every process on the GPU


# NVIDIA, "Xid Errors": those whose remedy is to restart the application, or to reset the GPU. 45
# is not among them: it follows the end of a process, also one that we ended.
XIDS = {
    8: ("the GPU stopped processing", Reach.PROCESS),
    11: ("invalid or corrupted push buffer", Reach.PROCESS),
    13: ("graphics engine exception", Reach.PROCESS),
    31: ("memory page fault", Reach.PROCESS),
    32: ("invalid or corrupted push buffer", Reach.PROCESS),
    43: ("the GPU stopped processing", Reach.PROCESS),
    45: ("cleanup after an earlier error", Reach.NOBODY),
    48: ("double-bit memory error", Reach.DEVICE),
    62: ("internal controller halted", Reach.DEVICE),
    63: ("memory row remapped", Reach.NOBODY),
    64: ("memory row could not be remapped", Reach.NOBODY),
    69: ("graphics engine class error", Reach.PROCESS),
    74: ("NVLink error", Reach.NOBODY),
    79: ("the GPU has fallen off the bus", Reach.DEVICE),
    92: ("many corrected memory errors", Reach.NOBODY),
    94: ("contained memory error", Reach.PROCESS),
    95: ("uncontained memory error", Reach.DEVICE),
    109: ("context switch timeout", Reach.DEVICE),
    119: ("the GPU's firmware does not answer", Reach.DEVICE),
    120: ("error in the GPU's firmware", Reach.DEVICE),
    140: ("unrecovered memory error", Reach.DEVICE),
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to tell of an error, and why the worker must not go on; None: it may."""

    told: Happened
    fatal: str | None


def judge_xid(xid: int, processes: int | None) -> Verdict:
    """`processes`: how many compute on the GPU. Where it is the worker alone, or nobody knows, an
    error of one process is the worker's: a process whose CUDA has failed serves nobody."""
    meaning, reach = XIDS.get(xid, ("see NVIDIA's list of Xid errors", Reach.NOBODY))
    is_fatal = reach is Reach.DEVICE or (reach is Reach.PROCESS and (processes or 1) <= 1)
    words = f"the GPU reported Xid {xid} ({meaning})"
    told = Happened(
        "gpu_fault",
        "error" if is_fatal else "warning",
        words,
        {"xid": xid, "meaning": meaning, "fatal": is_fatal, "processes": processes},
    )
    return Verdict(told, words if is_fatal else None)


def judge_loss(words: str) -> Verdict:
    """NVML itself says that the GPU is gone."""
    said = f"the GPU is lost ({words})"
    return Verdict(Happened("gpu_fault", "error", said, {"xid": None, "fatal": True}), said)


class Condition:
    """One GPU under one worker; the first reading, taken after warm-up, is the baseline."""

    def __init__(self) -> None:
        self._baseline_bytes: int | None = None
        self._told_bytes = 0
        self._slow_until_s: float | None = None
        self._last: Reading | None = None
        self._corrected = 0  # that are not told yet
        self._corrected_told_s = float("-inf")

    def observe(self, reading: Reading, now_s: float) -> list[Happened]:
        """What got worse, or better, since the last reading."""
        before, self._last = self._last or reading, reading
        told = [
            self._memory(reading),
            self._clocks(reading, now_s),
            self._uncorrected(before, reading),
            self._corrections(before, reading, now_s),
        ]
        return [it for it in told if it is not None]

    def _memory(self, reading: Reading) -> Happened | None:
        """Libraries and the driver allocate beside torch's allocator, which its counters miss."""
        now_bytes = reading.process_bytes
        if now_bytes is None:
            return None
        if self._baseline_bytes is None:
            self._baseline_bytes = self._told_bytes = now_bytes
        grown = now_bytes - self._told_bytes
        if grown <= GROWN_BYTES:
            return None
        self._told_bytes = now_bytes
        return Happened(
            "memory_grew",
            "error",
            f"the driver counts {grown} bytes more for the worker",
            {
                "device_process_bytes": now_bytes,
                "baseline_device_process_bytes": self._baseline_bytes,
                "device_used_bytes": reading.used_bytes,
            },
        )

    def _clocks(self, reading: Reading, now_s: float) -> Happened | None:
        was_slow = self._slow_until_s is not None
        if reading.slowdowns:
            self._slow_until_s = now_s + CALM_S
            if not was_slow:
                return _slowed(reading)
        elif self._slow_until_s is not None and now_s >= self._slow_until_s:
            self._slow_until_s = None
            data = {"temperature_c": reading.temperature_c}
            return Happened("gpu_recovered", "info", "the GPU runs at its clocks again", data)
        return None

    def _uncorrected(self, before: Reading, now: Reading) -> Happened | None:
        new = _more(before.ecc_uncorrected, now.ecc_uncorrected)
        if not new:
            return None
        return Happened(
            "gpu_memory_error",
            "error",
            f"the GPU's memory had {new} errors that it could not correct",
            {"uncorrected": new, "uncorrected_total": now.ecc_uncorrected},
        )

    def _corrections(self, before: Reading, now: Reading, now_s: float) -> Happened | None:
        self._corrected += _more(before.ecc_corrected, now.ecc_corrected)
        if not self._corrected or now_s - self._corrected_told_s < AGAIN_S:
            return None
        new, self._corrected, self._corrected_told_s = self._corrected, 0, now_s
        return Happened(
            "gpu_memory_error",
            "warning",
            f"the GPU's memory had {new} errors, corrected",
            {"corrected": new, "corrected_total": now.ecc_corrected},
        )


def _slowed(reading: Reading) -> Happened:
    warm = "" if reading.temperature_c is None else f" at {reading.temperature_c} °C"
    return Happened(
        "gpu_throttled",
        "warning",
        f"the GPU slows down{warm}: {', '.join(reading.slowdowns)}",
        {"reasons": list(reading.slowdowns), "temperature_c": reading.temperature_c},
    )


def _more(before: int | None, now: int | None) -> int:
    return max(0, now - before) if before is not None and now is not None else 0
