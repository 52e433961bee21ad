"""Identities of portraits, computed in a process of their own."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
from collections import deque
from dataclasses import dataclass

from stream.partner import Partner, partner
from workers.errors import ModelError, PortraitRefused
from workers.geometry import Geometry
from workers.picture import Picture
from workers.preparer_messages import PortraitSize, Prepare, Prepared, PrepareFailed

log = logging.getLogger(__name__)

PREPARE_S = 120.0  # for one identity, the model's loading included
IDLE_S = 60.0  # then the process leaves, and with it a second copy of the model
WAITING = 64
ENVIRONMENT = {
    "CUDA_VISIBLE_DEVICES": "",  # the device is the workers'
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


@dataclass(frozen=True, slots=True)
class _Request:
    prepare: Prepare
    picture: Picture | None
    answer: asyncio.Future[int]


class Identities:
    """Asks the preparer, which runs only while there is something to ask."""

    def __init__(
        self, model: str, *, idle_s: float = IDLE_S, module: str = "workers.preparer"
    ) -> None:
        self._model = model
        self._module = module
        self._idle_s = idle_s
        self._numbers = itertools.count(1)
        self._unsent = deque[_Request]()
        self._sent: dict[int, _Request] = {}
        self._wake = asyncio.Event()
        self.pid: int | None = None
        """The preparer's, while there is one."""

    async def prepare(self, geometry: Geometry, portrait: Picture | str | None = None) -> int:
        """A memfd with the identity, the caller's to keep and to close; it serves any number of
        `OpenLane`s. portrait: a name: the model's own of that name; None: its default one.

        Raises PortraitRefused when there is no identity in it, ModelError when it could not be
        looked for.
        """
        if len(self._unsent) + len(self._sent) >= WAITING:
            raise ModelError(f"{WAITING} portraits wait already: try again in a while")
        picture = portrait if isinstance(portrait, Picture) else None
        prepare = Prepare(
            next(self._numbers),
            self._model,
            geometry,
            PortraitSize(picture.width, picture.height, picture.channels) if picture else None,
            portrait if isinstance(portrait, str) else None,
        )
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._unsent.append(_Request(prepare, picture, answer))
        self._wake.set()
        try:
            return await answer
        except asyncio.CancelledError:
            if answer.done() and not answer.cancelled() and answer.exception() is None:
                os.close(answer.result())  # it came just as nobody wanted it any more
            raise

    async def run(self) -> None:
        """Starts the preparer when it is needed, until cancelled."""
        try:
            while True:
                if self._unsent:
                    await self._serve()
                else:
                    await self._wake.wait()
                    self._wake.clear()
        finally:
            self._sent.update((it.prepare.request, it) for it in self._unsent)
            self._unsent.clear()
            self._fail_sent("the server stops")

    async def _serve(self) -> None:
        """One process, until it has nothing to do for a while or is lost."""
        reason = "the server stops"
        try:
            async with partner("preparer", self._module, ENVIRONMENT, self._wake) as it:
                self.pid = it.child.pid
                try:
                    reason = await self._converse(it)
                except EOFError:
                    reason = f"the preparer was lost, {await it.child.wait()}"
        finally:
            self.pid = None
            self._fail_sent(reason)

    async def _converse(self, it: Partner) -> str:
        while True:
            while self._unsent:
                self._ask(it)
            try:
                async with asyncio.timeout(PREPARE_S if self._sent else self._idle_s):
                    await self._wake.wait()
            except TimeoutError:
                return f"it took more than {PREPARE_S:.0f} s"
            self._wake.clear()
            while (received := it.channel.receive()) is not None:
                self._answer(*received)

    def _ask(self, it: Partner) -> None:
        request = self._unsent.popleft()
        if request.answer.done():  # whoever asked has gone
            return
        self._sent[request.prepare.request] = request
        if request.picture is None:
            it.post.send(request.prepare)
            return
        fd = os.memfd_create("portrait")
        try:
            os.pwrite(fd, request.picture.pixels, 0)
            it.post.send(request.prepare, fd)
        finally:
            os.close(fd)

    def _answer(self, message: object, fd: int | None) -> None:
        match message:
            case Prepared(number):
                assert fd is not None, "an identity comes beside its message"
                answer = self._sent.pop(number).answer
                if answer.done():  # whoever asked has gone
                    os.close(fd)
                else:
                    answer.set_result(fd)
            case PrepareFailed(number, reason):
                self._fail(self._sent.pop(number), PortraitRefused(reason))
            case _:
                raise AssertionError(f"{message} is no word of a preparer")

    def _fail_sent(self, reason: str) -> None:
        for request in self._sent.values():
            error = ModelError(f"no identity could be prepared, {reason}: try again")
            self._fail(request, error)
        self._sent.clear()

    def _fail(self, request: _Request, error: ModelError) -> None:
        if not request.answer.done():
            log.warning("identity failed: request=%d %s", request.prepare.request, error)
            request.answer.set_exception(error)
