"""Computes identities on the CPU, in a process of its own, off everybody's frame path."""

from __future__ import annotations

import logging
import os
import select
import signal
import sys

import click
import torch
from torch import Tensor

from workers.channel import Channel
from workers.errors import ModelError, OmokageError, PortraitRefused
from workers.identity import save_identity
from workers.models.api import AvatarModel, Tensors
from workers.models.loader import load_model
from workers.parent import leave_with_parent
from workers.picture import SIDES, Picture
from workers.portrait import portrait_of, portrait_of_nobody, shipped
from workers.preparer_messages import PortraitSize, Prepare, Prepared, PrepareFailed

log = logging.getLogger(__name__)

NICE = 10  # frames come first
SEND_TIMEOUT_S = 10.0


class Preparer:
    """Answers one request after another, in order; keeps the model that was asked for last."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._name: str | None = None
        self._model: AvatarModel | None = None

    def run(self) -> int:
        """Serves until the stream side is gone; the exit code."""
        poll = select.poll()
        poll.register(self._channel.fileno(), select.POLLIN)
        try:
            while True:
                while (received := self._channel.receive()) is not None:
                    self._answer(*received)
                poll.poll()
        except EOFError:
            return 0

    def _answer(self, message: object, fd: int | None) -> None:
        assert isinstance(message, Prepare), f"{message} is no word for a preparer"
        try:
            identity_fd = self._prepare(message, fd)
        except OmokageError as error:
            self._say(PrepareFailed(message.request, str(error)))
            return
        # The one owner of a request: whatever a model raises ends this request alone.
        except Exception as error:
            log.exception("identity failed: request=%d model=%s", message.request, message.model)
            self._say(PrepareFailed(message.request, _told(message.model, error)))
            return
        finally:
            if fd is not None:
                os.close(fd)
        try:
            self._say(Prepared(message.request), identity_fd)
        finally:
            os.close(identity_fd)

    @torch.inference_mode()
    def _prepare(self, asked: Prepare, fd: int | None) -> int:
        model = self._load(asked.model)
        if asked.portrait is not None:
            assert fd is not None, "a portrait comes beside its message"
            portrait = portrait_of(model, _read_portrait(fd, asked.portrait))
        elif asked.name is not None:
            portrait = shipped(model, asked.name)
        else:
            portrait = portrait_of_nobody(model, asked.geometry)
        return save_identity(_checked(asked.model, model.identity(portrait)))

    def _load(self, name: str) -> AvatarModel:
        if self._model is None or self._name != name:
            self._model = None  # before the next one comes: never two in memory
            self._model = load_model(name, torch.device("cpu"))
            self._name = name
        return self._model

    def _say(self, answer: Prepared | PrepareFailed, fd: int | None = None) -> None:
        if not self._channel.send(answer, fd, timeout_s=SEND_TIMEOUT_S):
            log.error("answer lost, nobody reads: request=%d", answer.request)


def _read_portrait(fd: int, size: PortraitSize) -> Picture:
    if size.width not in SIDES or size.height not in SIDES:
        raise PortraitRefused(
            f"the portrait is {size.width}x{size.height}: its sides must be from "
            f"{SIDES.start} to {SIDES.stop - 1} pixels"
        )
    data = bytearray(size.portrait_bytes)
    if (got := os.preadv(fd, [data], 0)) != len(data) or os.fstat(fd).st_size != len(data):
        raise PortraitRefused(
            f"the portrait of {size.width}x{size.height} came as {got} bytes, not {len(data)}: "
            f"send {size.channels} bytes a pixel, without padding"
        )
    return Picture(size.width, size.height, bytes(data), size.channels)


def _checked(name: str, identity: object) -> Tensors:
    if not isinstance(identity, dict) or not all(
        isinstance(key, str) and isinstance(row, Tensor) for key, row in identity.items()
    ):
        raise ModelError(
            f"model {name!r} gave an identity that is no dict of tensors: "
            "let identity() return {name: tensor}"
        )
    for key, row in identity.items():
        if row.is_floating_point() and not bool(row.isfinite().all()):
            raise ModelError(
                f"model {name!r} found no identity in the portrait: {key!r} is not finite: "
                "try another portrait"
            )
    return identity


def _told(name: str, error: Exception) -> str:
    text = " ".join(str(error).split())[:300]
    return f"model {name!r} failed on the portrait: {type(error).__name__}: {text}"


@click.command()
@click.option("--socket", "socket_fd", type=int, required=True, help="The channel's descriptor.")
@click.option("--alive", "alive_fd", type=int, required=True, help="The parent's pipe.")
def main(socket_fd: int, alive_fd: int) -> None:
    """The preparer; `omokage serve` starts it."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    leave_with_parent(alive_fd)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server's to answer; it then ends us
    os.nice(NICE)
    torch.set_num_threads(1)
    sys.exit(Preparer(Channel.from_fd(socket_fd)).run())


if __name__ == "__main__":
    main()
