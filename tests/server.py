"""A real `omokage serve` in a process of its own, for tests and measurements."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

TESTS = Path(__file__).parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def children(pid: int) -> list[int]:
    """All descendants."""
    found: list[int] = []
    queue = [pid]
    while queue:
        parent = queue.pop()
        try:
            tasks = list(Path(f"/proc/{parent}/task").iterdir())
        except FileNotFoundError:
            continue
        for task in tasks:
            try:
                text = (task / "children").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue
            kids = [int(word) for word in text.split()]
            found += kids
            queue += kids
    return found


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def rss_bytes(pids: Sequence[int]) -> int:
    total = 0
    for pid in pids:
        try:
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
        except (FileNotFoundError, ProcessLookupError):
            continue
    return total


@dataclass
class Server:
    process: asyncio.subprocess.Process
    port: int
    broker_port: int
    lines: list[str] = field(default_factory=list)

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pids(self) -> list[int]:
        return [self.process.pid, *children(self.process.pid)]

    def worker_pid(self) -> int:
        found = [p for p in children(self.process.pid) if "workers.worker" in command_of(p)]
        if len(found) != 1:
            raise LookupError(f"{len(found)} workers")
        return found[0]

    def rss_bytes(self) -> int:
        return rss_bytes(self.pids)

    def threads(self) -> int:
        """Of the server alone."""
        return len(list(Path(f"/proc/{self.process.pid}/task").iterdir()))

    def descriptors(self) -> int:
        """Of all our processes."""
        return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in self.pids)

    def segments(self) -> int:
        """Mappings of shared memory, of all our processes."""
        return sum(
            line.count("memfd:")
            for pid in self.pids
            for line in Path(f"/proc/{pid}/maps").read_text().splitlines()
        )

    async def until_line(self, pattern: str, timeout_s: float = 60.0) -> str:
        """The first line of its output that matches, past or to come."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            for line in self.lines:
                if re.search(pattern, line):
                    return line
            if self.process.returncode is not None:
                break
            await asyncio.sleep(0.02)
        raise TimeoutError(f"no line {pattern!r} in:\n" + "\n".join(self.lines))

    async def stop(self, timeout_s: float = 8.0) -> int:
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        return await asyncio.wait_for(self.process.wait(), timeout_s)


@asynccontextmanager
async def serve(
    *flags: str, env: dict[str, str] | None = None, wait: bool = True, module: str = "stream"
) -> AsyncIterator[Server]:
    """Yields once it is ready. Its free ports are chosen here; `flags` may override."""
    port, broker_port = free_port(), free_port()
    ours = {"PYTHONPATH": str(TESTS), "PYTHONUNBUFFERED": "1"}
    environment = os.environ | ours | (env or {})
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, "serve",
        "--port", str(port), "--broker-port", str(broker_port), *flags,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=environment,
        cwd=TESTS.parent,
    )  # fmt: skip
    server = Server(process, port, broker_port)

    async def collect() -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            server.lines.append(line.decode(errors="replace").rstrip())

    collector = asyncio.create_task(collect())
    try:
        if wait:
            await server.until_line(r"memory baseline")
        yield server
    finally:
        if process.returncode is None:
            try:
                await server.stop()
            except TimeoutError:
                process.kill()
        await process.wait()
        await asyncio.wait_for(collector, 5)
