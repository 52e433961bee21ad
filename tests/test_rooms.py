"""The arrow between the rooms: what is imported, and what the live processes have loaded.

torch itself imports asyncio, ssl, http and others of the standard library's network. So of these
the source is asked: no module of `workers` names them. A live worker may have such a module only
where torch, imported alone, has it too.
"""

from __future__ import annotations

import ast
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import aiohttp
from peers import Client, Performer
from processes import until
from server import TESTS, Server, children, command_of, serve

ROOT = TESTS.parent
NETWORK = {
    "aiohttp", "aioice", "aiomqtt", "aiortc", "amqtt", "asyncio", "concurrent", "email", "ftplib",
    "http", "httpx", "imaplib", "multiprocessing", "paho", "poplib", "pylibsrtp", "requests",
    "selectors", "smtplib", "socket", "socketserver", "ssl", "telnetlib", "urllib", "urllib3",
    "websockets", "xmlrpc",
}  # fmt: skip
MAY = {"workers.channel": {"socket"}}  # of a pair that never meets a network

# In every Python process of the server: on a signal, writes what is loaded.
TELLER = """
import os, signal, sys

def tell(number, frame):
    text = "\\n".join(tuple(sys.modules))
    with open(f"{os.environ['MODULES']}/{os.getpid()}.part", "w") as file:
        file.write(text)
    os.rename(file.name, file.name.removesuffix(".part"))

signal.signal(signal.SIGUSR2, tell)
"""


def room(name: str) -> dict[str, Path]:
    """Its modules."""
    found = {}
    for path in sorted((ROOT / name).rglob("*.py")):
        words = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(words[:-1] if words[-1] == "__init__" else words)] = path
    assert len(found) > 15, f"{name} is somewhere else"
    return found


MODULES = room("stream") | room("workers")


@cache
def imports(module: str) -> frozenset[str]:
    """Everything that a module imports, also deep inside a function; ours by their full names."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        match node:
            case ast.Import(names):
                found.update(it.name for it in names)
            case ast.ImportFrom(source, names, level):
                assert level == 0 and source is not None, f"{module} imports relatively"
                for it in names:
                    own = f"{source}.{it.name}"
                    found.add(own if own in MODULES else source)
            case ast.Call(ast.Attribute(attr="import_module"), [ast.Constant(str(name))]):
                found.add(name)
            case ast.Call(ast.Attribute(attr="import_module") | ast.Name("__import__")):
                # The user's model: what that imports is the user's matter.
                assert module == "workers.models.loader", f"{module} imports by name"
    return frozenset(found)


def packages(module: str) -> set[str]:
    return {it.partition(".")[0] for it in imports(module)}


@cache
def brings_torch(module: str) -> bool:
    """Importing it, or using all that it may import later, loads torch."""
    return any(brings_torch(it) for it in _ours(module)) or "torch" in packages(module)


def _ours(module: str) -> Iterator[str]:
    """What it imports of ours, and the packages on the way there."""
    for it in imports(module):
        words = it.split(".")
        for end in range(1, len(words) + 1):
            if (own := ".".join(words[:end])) in MODULES and own != module:
                yield own


def test_workers_never_imports_stream_asyncio_or_a_network_library() -> None:
    for module in room("workers"):
        wrong = packages(module) & (NETWORK | {"stream"}) - MAY.get(module, set())
        assert not wrong, f"{module} imports {wrong}"


def test_stream_imports_torch_free_modules_of_workers_only() -> None:
    for module in room("stream"):
        assert "torch" not in packages(module), module
        for it in imports(module):
            assert it.partition(".")[0] != "workers" or it in MODULES, f"{module}: {it} is none"
        wrong = {it for it in imports(module) if it in MODULES and brings_torch(it)}
        assert not wrong, f"{module} brings torch by {wrong}"
    assert brings_torch("workers.engine") and not brings_torch("workers.ring")


# ------------------------------------------------------------------------ live


async def modules_of(pid: int, folder: Path) -> set[str]:
    """What a live process has in `sys.modules`, by its own words."""
    os.kill(pid, signal.SIGUSR2)
    file = folder / str(pid)
    await until(file.exists)
    return set(file.read_text().split())


def names(modules: set[str]) -> set[str]:
    return {it.partition(".")[0] for it in modules}


def libraries(pid: int) -> str:
    """The native ones that it has mapped."""
    maps = Path(f"/proc/{pid}/maps").read_text()
    return "\n".join(sorted(set(re.findall(r"/\S*\.so\S*", maps))))


def network_sockets(pid: int) -> set[str]:
    """Local addresses of TCP and UDP sockets that it holds, as the kernel writes them."""
    known = {}
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            known[f"socket:[{words[9]}]"] = words[1]
    held = {str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir()}
    return {address for inode, address in known.items() if inode in held}


def only(server: Server, part: str) -> int:
    (found,) = [it for it in children(server.process.pid) if f"-m {part}" in command_of(it)]
    return found


def brought_by_torch() -> set[str]:
    script = "import sys, torch; print(*sys.modules)"
    return set(subprocess.check_output([sys.executable, "-c", script], text=True).split())


async def test_the_live_processes_have_loaded_what_is_theirs_alone(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(TELLER)
    environment = {"PYTHONPATH": f"{tmp_path}:{TESTS}", "MODULES": str(tmp_path)}
    flags = ("--model", "avatars:Prepared", "--geometry", "64x64", "--max-sessions", "2")
    async with serve(*flags, env=environment) as server, aiohttp.ClientSession() as http:
        client = Client()
        await client.publish(http, server.base, Performer("red", 20, 64, 64))
        await until(lambda: len(client.seen) >= 5)
        pids = {
            part: only(server, part)
            for part in ("workers.worker", "workers.preparer", "stream.keeper")
        }
        loaded = {part: await modules_of(pid, tmp_path) for part, pid in pids.items()}
        serving = await modules_of(server.process.pid, tmp_path)
        await client.end(http)

        assert {"stream.app", "aiortc"} <= serving and "torch" not in serving
        assert "libtorch" not in libraries(server.process.pid)
        assert "torch" not in loaded["stream.keeper"] and "av" not in loaded["stream.keeper"]
        assert "libtorch" not in libraries(pids["stream.keeper"])
        torch_alone = brought_by_torch()
        for part in ("workers.worker", "workers.preparer"):
            assert "torch" in loaded[part] and part.partition(".")[0] in names(loaded[part])
            assert "libtorch" in libraries(pids[part])
            assert "stream" not in names(loaded[part])
            assert not names(loaded[part] - torch_alone) & NETWORK - names(torch_alone)
            assert not re.search("pylibsrtp|_opus|_vpx|aiortc|aiohttp", libraries(pids[part]))
            assert network_sockets(pids[part]) == set(), f"{part} is on the network"
        assert network_sockets(pids["stream.keeper"]) == set()
        assert network_sockets(server.process.pid), "the server is on no network"
