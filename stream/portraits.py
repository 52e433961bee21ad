"""The portraits that a session may wear, as the identities that a worker knows them by."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from stream.identities import Identities
from workers.errors import ModelError, NoPortraits, NoSuchPortrait
from workers.messages import Loaded
from workers.picture import Picture, read_picture, write_webp

log = logging.getLogger(__name__)

Decoded = TypeVar("Decoded")

KEPT = 8  # identities of shipped portraits: memfds of about 20 MB each
NICE = 10  # of the thread that decodes: frames come first
SHOWN_SIDE = 512  # px, of a picture for the page


class Portraits:
    """Asks for each shipped portrait's identity once. Belongs to the event loop."""

    def __init__(self, identities: Identities) -> None:
        self._identities = identities
        self._loaded: Loaded | None = None
        self._kept: dict[str, int] = {}  # least recently worn first; "": of a model that ships none
        self._default_fd: int | None = None
        self._files: dict[str, bytes] = {}
        self._asking = asyncio.Lock()
        self._decoder = ThreadPoolExecutor(1, "portrait", initializer=_be_nice)

    def model_loaded(self, loaded: Loaded) -> None:
        self._loaded = loaded

    def close(self) -> None:
        for identity_fd in self._kept.values():
            os.close(identity_fd)
        self._kept.clear()
        if self._default_fd is not None:
            os.close(self._default_fd)
            self._default_fd = None
        self._decoder.shutdown(wait=False, cancel_futures=True)

    @property
    def names(self) -> Sequence[str]:
        """Of the shipped ones, the default first."""
        return tuple(self._loaded.portraits) if self._loaded is not None else ()

    @property
    def are_worn(self) -> bool:
        """Whether the model has an identity at all."""
        return self._loaded is not None and self._loaded.has_identity

    def check(self, name: str | None) -> None:
        """Raises NoPortraits or NoSuchPortrait where it cannot be worn; None: any picture."""
        if not self.are_worn:
            raise NoPortraits(
                "the model that runs here wears no portrait: start the server with one that does"
            )
        if name is not None:
            self._path(name)

    async def prepare_default(self) -> None:
        """The identity of who brings no portrait. Raises ModelError where there is none."""
        self._default_fd = await self.identity(None)

    def default(self) -> int | None:
        """That identity, the caller's to close; None for a model without one."""
        return None if self._default_fd is None else os.dup(self._default_fd)

    async def identity(self, portrait: Picture | str | None) -> int | None:
        """A memfd for the worker, the caller's to close; None for a model without an identity.

        portrait: a name: the shipped one; None: the default. Raises PortraitRefused where the
        picture has none, NoSuchPortrait, or ModelError when it could not be looked for.
        """
        if self._loaded is None or not self._loaded.has_identity:
            return None
        if isinstance(portrait, Picture):
            return await self._identities.prepare(self._loaded.geometry, portrait)
        name = next(iter(self._loaded.portraits), "") if portrait is None else portrait
        if name:
            self._path(name)
        async with self._asking:
            identity_fd = self._kept.pop(name, None)
            if identity_fd is None:
                identity_fd = await self._identities.prepare(self._loaded.geometry, name or None)
            self._kept[name] = identity_fd
            while len(self._kept) > KEPT:
                os.close(self._kept.pop(next(iter(self._kept))))
            return os.dup(identity_fd)

    async def foresee(self) -> None:
        """Prepares those that may be asked for soon, so that a change is then at once."""
        for name in self.names[:KEPT]:
            try:
                identity_fd = await self.identity(name)
            except ModelError as error:
                log.warning("a portrait that ships cannot be worn: portrait=%s %s", name, error)
            else:
                if identity_fd is not None:
                    os.close(identity_fd)

    async def read(self, data: bytes) -> Picture:
        """A stranger's file. Raises PortraitRefused."""
        return await self._decode(partial(read_picture, data))

    async def file(self, name: str) -> bytes:
        """The shipped portrait as WebP, for a page. Raises NoSuchPortrait."""
        if name not in self._files:
            self._files[name] = await self._decode(partial(_shown, self._path(name)))
        return self._files[name]

    async def _decode(self, work: Callable[[], Decoded]) -> Decoded:
        return await asyncio.get_running_loop().run_in_executor(self._decoder, work)

    def _path(self, name: str) -> Path:
        paths = {} if self._loaded is None else self._loaded.portraits
        if name not in paths:
            raise NoSuchPortrait("no portrait has this name: GET /portraits lists them")
        return Path(paths[name])


def _shown(path: Path) -> bytes:
    return write_webp(read_picture(path.read_bytes(), SHOWN_SIDE))


def _be_nice() -> None:
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
