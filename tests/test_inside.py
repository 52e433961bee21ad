"""How we reach into aiortc."""

from __future__ import annotations

import pytest

from stream import inside


def test_what_is_not_there_cannot_be_replaced() -> None:
    with pytest.raises(AttributeError):
        inside.replace(object(), "_RTCRtpReceiver__jitter_buffer", None)
