"""The public name of a session or a node: what topics, logs and links may carry."""

from __future__ import annotations

import re

FORM = "[a-z0-9-]{1,64}"
_NAME = re.compile(FORM)


def is_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None


def fit_name(text: str) -> str:
    """The nearest name to any text, as to a machine's host name."""
    fitted = re.sub(r"[^a-z0-9-]+", "-", text.lower()).strip("-")[:64].rstrip("-")
    return fitted or "node"
