"""Requests that are answered with an error, and what a client is told of a failure."""

from __future__ import annotations

import logging
import traceback

from soma_bench.errors import SomaError

STOPPING = "The service is stopping; please try again in a moment"
SESSION_CLOSED = "The session was closed"
FAILED = "The service failed"

_log = logging.getLogger(__name__)


class RequestError(SomaError):
    """A request cannot be served.

    Args:
        message: what is wrong and what to do; the client reads it.
        status: HTTP status.
    """

    def __init__(self, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


def told(error: Exception) -> str:
    """What the client is told: the message of a foreseen error, and of any other only that it was."""
    if isinstance(error, SomaError):
        return str(error)
    return f"{FAILED} ({type(error).__name__}); its log says where"


def write_down(error: Exception) -> None:
    """Log an error that nobody foresaw: its kind and where, not its message, which may quote data."""
    where = "".join(traceback.format_tb(error.__traceback__))
    _log.error("%s: %s\n%s", FAILED, type(error).__name__, where)
