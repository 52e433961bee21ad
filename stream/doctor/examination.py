"""All that is looked at, at the same time, and told in one order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Sequence

from stream.doctor import (
    broker,
    certificate,
    clock,
    codecs,
    ice,
    limits,
    machine,
    model,
    ports,
    storage,
)
from stream.doctor.aside import aside
from stream.doctor.finding import Finding, error
from stream.settings import Settings

LONGEST_S = 15.0
MACHINE_S = machine.ASK_S + 5.0  # torch, from a cold disk


async def examine(settings: Settings) -> list[Finding]:
    """Touches nothing, leaves nothing behind; over within seconds, whatever is silent."""
    logging.getLogger("aioice").setLevel(logging.CRITICAL)  # what it meets is a finding
    examined = await asyncio.gather(
        _whole("machine", _machine(settings), MACHINE_S),
        _whole("model", aside(model.look, settings)),
        _whole("codecs", aside(codecs.look)),
        _whole("ports", aside(ports.look, settings)),
        _whole("broker", broker.look(settings)),
        _whole("certificate", aside(certificate.look, settings)),
        _whole("ice", ice.look(settings)),
        _whole("storage", aside(storage.look)),
        _whole("clock", aside(clock.look)),
    )
    return [found for group in examined for found in group]


async def _machine(settings: Settings) -> list[Finding]:
    torch, driver = await asyncio.gather(
        machine.ask_torch(settings.device), aside(machine.look_at_driver)
    )
    return [
        *machine.judge(settings.device, torch, driver),
        *limits.judge(settings, limits.look(), on_cuda=torch.is_on_cuda),
    ]


async def _whole(
    topic: str, looking: Awaitable[Sequence[Finding]], within_s: float = LONGEST_S
) -> Sequence[Finding]:
    """One look's mistake or silence is a finding, and the others go on."""
    try:
        async with asyncio.timeout(within_s):
            return await looking
    except TimeoutError:
        return [error(topic, f"no end within {within_s:.0f} s", "see what it waits for")]
    except Exception as failed:
        said = f"it could not be looked at ({type(failed).__name__}: {failed})"
        return [error(topic, said, "tell its developers, with this line")]
