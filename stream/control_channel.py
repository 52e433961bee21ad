"""Controls over a WebRTC data channel, whoever is at its other end."""

from __future__ import annotations

import json
import logging
import time

from aiortc import RTCDataChannel

from stream.controls import Controls, read_json
from workers.errors import ControlRefused

log = logging.getLogger(__name__)

LABEL = "controls"
MOST_CHARACTERS = 4096
PER_S = 60.0  # a slider that is dragged says as much
BURST = 120.0
MOST_UNSENT_BYTES = 64 * 1024


class Rate:
    """So many a second, and a burst of them: a bucket that fills with time."""

    def __init__(self, per_s: float, burst: float) -> None:
        self._per_s = per_s
        self._burst = self._left = burst
        self._at_s: float | None = None

    def allows(self, now_s: float) -> bool:
        """Whether one more may be; it is counted then."""
        since_s = 0.0 if self._at_s is None else now_s - self._at_s
        self._at_s = now_s
        self._left = min(self._burst, self._left + since_s * self._per_s)
        if self._left < 1:
            return False
        self._left -= 1
        return True


class ControlChannel:
    """Takes JSON texts, {name: number}; answers each, and each change, with all that holds.

    A text that is refused is answered with {"error": …}. What is no text, too long or too much is
    ignored and counted.
    """

    def __init__(self, controls: Controls) -> None:
        self._controls = controls
        self._channel: RTCDataChannel | None = None
        self._rate = Rate(PER_S, BURST)
        self.ignored = 0
        controls.listen(lambda changed: self._say(controls.told()))

    def opened(self, channel: RTCDataChannel) -> None:
        """The newest of our label is the one; others are closed."""
        if channel.label != LABEL:
            channel.close()
            return
        before, self._channel = self._channel, channel
        if before is not None:
            before.close()
        channel.on("message", self._heard)
        self._say(self._controls.told())

    def _heard(self, message: object) -> None:
        if (
            not isinstance(message, str)
            or len(message) > MOST_CHARACTERS
            or not self._rate.allows(time.monotonic())
        ):
            self.ignored += 1
            return
        try:
            self._controls.change(read_json(message))
        except ControlRefused as error:
            self._say({"error": str(error)})

    def _say(self, value: object) -> None:
        channel = self._channel
        if channel is None or channel.readyState != "open":
            return
        if channel.bufferedAmount <= MOST_UNSENT_BYTES:  # else the peer takes nothing
            channel.send(json.dumps(value))
