"""What comes from a log, made harmless for HTML: the one door through which it enters the page."""

from __future__ import annotations

import re
from html import escape

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


def clean(value: str) -> str:
    """Text without control characters and lone surrogates, a replacement character for each."""
    return _CONTROL.sub("\ufffd", value)


def text(value: str) -> str:
    """Text of any origin as HTML text or attribute."""
    return escape(clean(value), quote=True)


def name(value: str) -> str:
    """A name from a log: escaped, and set apart so that its writing direction touches nothing else."""
    return f"<bdi>{text(value)}</bdi>"
