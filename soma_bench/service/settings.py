"""What can be set about the service."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import SecretStr

MIN_TOKEN_CHARACTERS = 16
TOKEN_VARIABLE = "SOMA_BENCH_TOKEN"  # noqa: S105 - its name, not its value


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSettings:
    """Limits and doors of the service."""

    token: SecretStr | None = None
    """Bearer token that every request must carry; None lets everyone on this machine in."""
    on_loopback: bool = True
    """Whether only this machine can connect; requests for another host's name are then refused,
    which a web page could otherwise make through a name that it lets point here."""
    cors_origins: tuple[str, ...] = ()
    """Origins whose pages may read answers, as ``http://localhost:5173``."""
    max_body_bytes: int = 32 << 20
    body_timeout_s: float = 60.0
    """How long a client may take to send its request."""
    session_ttl_s: float = 3600.0
    """A session that is not used for so long is forgotten."""
    max_sessions: int = 256
    """Above it, the session that was not used for longest is forgotten."""
    max_picture_bytes: int = 256 << 20
    """Likewise for the pictures of all sessions together."""
    heartbeat_s: float = 30.0
    grace_s: float = 10.0
    """How long open requests may go on when the service is to stop."""
    deadline_s: float | None = None
    """How long one analysis or revision may take; None for no limit."""
    local_parallel: int = 1
    """Stages that one machine of one's own works on at the same time; the others wait."""
