"""Watches a worker's GPU from outside the worker, in a thread, for as long as it serves."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from time import monotonic

from stream.gpu_condition import Condition, Verdict, judge_loss, judge_xid
from stream.nvml import Device, Nvml, NvmlError, XidEvents
from workers.messages import Happened

log = logging.getLogger(__name__)

WAIT_S = 1.0  # for an error, which ends the wait; so long a stopped watch may take
READ_S = 5.0


class GpuWatch:
    """One life of a worker's: `begin` once it is ready, `end` when it is gone.

    On the event loop, `tell` hears what happened, and `condemn` why the worker must not go on.
    """

    def __init__(self, tell: Callable[[Happened], None], condemn: Callable[[str], None]) -> None:
        self._tell = tell
        self._condemn = condemn
        self._stopping = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def begin(self, uuid: str | None, pid: int) -> None:
        """Watch the GPU that the driver knows by this name; none: there is nothing to watch."""
        if uuid is None or self._thread is not None:
            return
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(
            target=self._run, args=(uuid, pid), name="gpu watch", daemon=True
        )
        self._thread.start()

    def end(self) -> None:
        """Nobody is condemned after this. Returns at once; the thread leaves by itself.

        An error that comes within WAIT_S is told yet: it may be why the worker went.
        """
        self._stopping.set()

    # -------------------------------------------------------------- the thread

    def _run(self, uuid: str, pid: int) -> None:
        try:
            nvml = Nvml.load()
            if nvml is None:
                log.debug("no NVML here, so nobody watches the GPU: gpu=%s", uuid)
                return
            with nvml:
                device = nvml.device(uuid)
                with _events(device) as events:
                    self._watch(device, events, pid)
        except NvmlError as error:
            if error.is_loss:
                self._say(judge_loss(str(error)))
            else:
                log.warning("the GPU cannot be watched: gpu=%s %s", uuid, error)
        except Exception:  # the thread's owner: a bug in watching must not end what is watched
            log.exception("watching the GPU failed")

    def _watch(self, device: Device, events: XidEvents | None, pid: int) -> None:
        condition, read_at_s = Condition(), monotonic()
        while not self._stopping.is_set():
            if monotonic() >= read_at_s:
                read_at_s = monotonic() + READ_S
                for happened in condition.observe(device.read(pid), monotonic()):
                    self._post(self._tell, happened)
            if events is None:
                self._stopping.wait(WAIT_S)
            elif (xid := events.wait(WAIT_S)) is not None:
                self._say(judge_xid(xid, device.read(pid).processes))

    def _say(self, verdict: Verdict) -> None:
        self._post(self._tell, verdict.told)
        if verdict.fatal is not None:
            self._post(self._condemn_unless_ended, verdict.fatal)

    def _post(self, hear: Callable[..., None], said: object) -> None:
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the loop has ended before us
            self._loop.call_soon_threadsafe(hear, said)

    def _condemn_unless_ended(self, reason: str) -> None:
        if not self._stopping.is_set():
            self._condemn(reason)


@contextlib.contextmanager
def _events(device: Device) -> Iterator[XidEvents | None]:
    """None where the driver does not tell them, as in a virtual machine with a share of a GPU."""
    try:
        events = device.events()
    except NvmlError as error:
        if error.is_loss:
            raise
        log.debug("the driver tells no Xid: %s", error)
        yield None
        return
    with events:
        yield events
