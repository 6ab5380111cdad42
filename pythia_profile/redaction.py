"""Nothing that is said or written carries the user's token: one redactor for text, logs and errors.

The token comes from the environment or from the hub's own file, never from the command line. What
could carry it all the same (an address with a token in it, a library's debug log) passes through
`redact` before it reaches a stream or a file.
"""

import logging
import os
import re
from functools import lru_cache
from pathlib import Path

__all__ = ["RedactingFormatter", "redact"]

REDACTED = "<token>"
_SHAPE = re.compile(r"\bhf_[A-Za-z0-9]{16,}|\bapi_org_[A-Za-z0-9]{16,}")
_BEARER = re.compile(r"(?i)\b(bearer\s+)[^\s\"',}]+")
_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")


def redact(text: str) -> str:
    """Return `text` with every token replaced, whether it is the user's or only looks like one.

    Examples
    --------
    >>> redact("GET https://user:hf_abcdefghijklmnop@hub/x, Authorization: Bearer secret")
    'GET https://user:<token>@hub/x, Authorization: Bearer <token>'
    """
    for token in _known_tokens():
        text = text.replace(token, REDACTED)
    return _BEARER.sub(rf"\1{REDACTED}", _SHAPE.sub(REDACTED, text))


class RedactingFormatter(logging.Formatter):
    """Formats log records, their tracebacks included, without tokens."""

    def format(self, record: logging.LogRecord) -> str:
        """Format `record`, then redact it."""
        return redact(super().format(record))


def _known_tokens() -> list[str]:
    values = [os.environ.get(name, "").strip() for name in _VARIABLES]
    home = os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface"
    values.append(_token_of(Path(os.environ.get("HF_TOKEN_PATH") or Path(home) / "token")))
    return [value for value in values if len(value) >= 6]


@lru_cache(maxsize=4)
def _token_of(path: Path) -> str:
    try:
        return path.expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
