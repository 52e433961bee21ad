"""The server with a short patience, for tests: `python -m impatient serve …`."""

from __future__ import annotations

import sys
from dataclasses import replace

from stream import registry
from stream.cli import main
from stream.session import PATIENCE, Source

HOLDING_S = 3.0

if __name__ == "__main__":
    patience = replace(PATIENCE[Source.WEBRTC], holding_s=HOLDING_S)
    registry.PATIENCE = {**PATIENCE, Source.WEBRTC: patience}
    sys.exit(main())
