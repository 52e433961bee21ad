"""An error in someone's model, told in one line."""

from __future__ import annotations

import inspect
from pathlib import Path

OURS = Path(__file__).parent
LETTERS = 300


def told(error: BaseException) -> str:
    """What was raised, and where in the user's own code: `ValueError: no face (a.py:7)`."""
    text = " ".join(str(error).split())[:LETTERS]
    frames = inspect.getinnerframes(error.__traceback__) if error.__traceback__ else []
    place = next(
        (
            f" ({Path(frame.filename).name}:{frame.lineno})"
            for frame in reversed(frames)
            if OURS not in Path(frame.filename).parents
            and "site-packages" not in frame.filename
            and not frame.filename.startswith("<")
            and "importlib" not in frame.filename
        ),
        "",
    )
    return f"{type(error).__name__}: {text}{place}" if text else f"{type(error).__name__}{place}"
