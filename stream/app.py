"""The one place that wires everything: from settings to a serving node, and back down."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager

from stream import capacity, heap
from stream.api import build_web_app, listen
from stream.broker import Broker
from stream.identities import Identities
from stream.lanes import Lanes
from stream.links import is_for_phones, links, with_token
from stream.mqtt import Address
from stream.node import Node
from stream.qr import qr_lines
from stream.registry import Registry
from stream.settings import Settings
from stream.supervisor import Supervisor
from stream.telemetry import Telemetry
from stream.tls import tls_context
from workers.errors import OmokageError
from workers.messages import Loaded, Ready, WorkerSpec

log = logging.getLogger(__name__)

SCAN = "Scan it with a phone."
WARNED = "Scan it with a phone on this network, and let its browser go on past the warning."


async def serve(settings: Settings) -> int:
    """Serves until SIGTERM or Ctrl-C: 0. Raises OmokageError for what the user can mend."""
    _log_in_sentences()
    heap.keep_small()
    async with AsyncExitStack() as stack:
        stop = stack.enter_context(_stop_signals())
        await _Server(with_token(settings), stop).run(stack)
    return 0


class _Server:
    def __init__(self, settings: Settings, stop: asyncio.Event) -> None:
        self._settings = settings
        self._stop = stop
        self._registry = Registry(settings.max_sessions)
        self._lanes = Lanes(self._registry, settings.fit)
        self._supervisor = Supervisor(_spec(settings), self._lanes)
        self._lanes.speaker = self._supervisor
        self._failure: OmokageError | None = None

    async def run(self, stack: AsyncExitStack) -> None:
        settings = self._settings
        if (warning := capacity.beyond(settings.max_sessions)) is not None:
            log.warning("%s", warning)
        # The doors first: a taken port is told at once, not after the warm-up.
        broker = await self._open_broker(stack)
        telemetry = Telemetry(settings.node, self._addresses(broker), prefix=settings.topic_prefix)
        identities = Identities(settings.model)
        node = Node(settings, self._registry, self._lanes, telemetry, identities)
        app = build_web_app(settings, node)
        doors = listen(app, settings.host, settings.port, tls_context(settings))
        port = await stack.enter_async_context(doors)
        node.on_failed = lambda error: self._fail(node, error)
        node.on_serving = lambda ready: self._say_serving(ready, port, broker)
        async with asyncio.TaskGroup() as group:
            keeping = [group.create_task(identities.run())]
            if broker is not None:
                keeping.append(group.create_task(broker.run()))
            telling = group.create_task(telemetry.run())
            async with node:
                group.create_task(self._supervise(node))
                await self._stop.wait()
                node.drain()
                log.info("stopping")
            await self._supervisor.stop()
            await telemetry.stop()
            for task in (*keeping, telling):
                task.cancel()
        if self._failure is not None:
            raise self._failure

    async def _supervise(self, node: Node) -> None:
        """A worker that cannot go on ends the server in good order, so that MQTT hears why."""
        try:
            await self._supervisor.run()
        except OmokageError as error:
            self._fail(node, error)

    def _fail(self, node: Node, error: OmokageError) -> None:
        self._failure = error
        node.fail(str(error))
        self._stop.set()

    async def _open_broker(self, stack: AsyncExitStack) -> Broker | None:
        """The embedded one; none where the user has one."""
        if self._settings.broker_url is not None:
            return None
        return await stack.enter_async_context(Broker(self._settings.broker_port))

    def _addresses(self, broker: Broker | None) -> list[Address]:
        if broker is not None:
            return [broker.address]
        assert self._settings.broker_url is not None
        return [Address.parse(self._settings.broker_url)]

    def _say_serving(self, ready: Ready, port: int, broker: Broker | None) -> None:
        """The start's four lines."""
        settings, loaded = self._settings, self._lanes.loaded
        assert loaded is not None
        pages = links(settings, port)
        brokers = self._addresses(broker)[0]
        sizes = ", ".join(str(size) for size in loaded.batch_sizes)
        lines = [
            f"page             {pages[0]}",
            *(f"                 {page}" for page in pages[1:]),
            f"broker           {brokers} (topics {settings.topic_prefix}/1/{settings.node}/#)",
            f"device           {ready.device_name}, batch {sizes}, {loaded.geometry}, "
            f"{ready.step_ms:.1f} ms a batch of {max(loaded.batch_sizes)}{_why(ready, loaded)}",
            f"memory baseline  {_memory(ready)}",
        ]
        if sys.stdout.isatty() and is_for_phones(settings):  # in a log it would be noise
            is_own = settings.https and settings.tls_cert is None
            lines += ["", *qr_lines(pages[0]), WARNED if is_own else SCAN, ""]
        print("\n".join(lines), flush=True)
        heap.settle()


def _why(ready: Ready, loaded: Loaded) -> str:
    if ready.device == "cpu":
        return " (on a CPU a fill costs as much as a frame: --batch changes it)"
    return ", replayed as a CUDA graph" if ready.captured else ", eager"


def _memory(ready: Ready) -> str:
    if ready.baseline_reserved_bytes is None or ready.baseline_allocated_bytes is None:
        return f"{ready.rss_bytes / 1e6:.0f} MB resident (the process's RSS: no GPU is used)"
    return (
        f"{ready.baseline_allocated_bytes / 1e6:.0f} MB allocated, "
        f"{ready.baseline_reserved_bytes / 1e6:.0f} MB reserved on the GPU"
    )


def _spec(settings: Settings) -> WorkerSpec:
    return WorkerSpec(
        index=0,
        model=settings.model,
        device=settings.device,
        geometry=settings.geometry,
        batch_sizes=settings.batch_sizes,
        max_wait_s=settings.max_wait_ms / 1e3,
        fill=settings.fill,
        max_sessions=settings.max_sessions,
        threads=settings.threads,
        compile=settings.compile,
        tell_batches=settings.batch_telemetry,
    )


@contextmanager
def _stop_signals() -> Iterator[asyncio.Event]:
    """Set by the first SIGTERM or Ctrl-C; the second one ends the process at once."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()

    def on_signal(number: signal.Signals) -> None:
        stop.set()
        loop.remove_signal_handler(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    try:
        yield stop
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def _log_in_sentences() -> None:
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(message)s",
        datefmt="%H:%M:%S",
        stream=sys.stderr,
    )
    for noisy in ("aiortc", "aioice", "libav"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
