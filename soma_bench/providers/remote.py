"""What providers behind an HTTP API have in common: the connection, its failures, their words.

The SDKs keep their own retries switched off; these helpers name what went wrong and leave trying
again to the router or the sweep. Nothing here lets a key through: what a backend says is searched
for it before it becomes part of a message.
"""

from __future__ import annotations

import logging
import math
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from datetime import UTC, datetime
from difflib import get_close_matches
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import httpx2
from pydantic import SecretStr

from soma_bench.errors import ProviderError, ProviderFailure
from soma_bench.providers.clock import CURRENT, Clock, timed_out
from soma_bench.providers.places import is_loopback as is_loopback
from soma_bench.types import Limits

FAILURE_BY_STATUS: Mapping[int, ProviderFailure] = {
    400: "bad_request",
    401: "bad_key",
    402: "bad_key",
    403: "bad_key",
    404: "model_missing",
    405: "bad_request",
    413: "bad_request",
    422: "bad_request",
    429: "rate_limited",
    503: "overloaded",
    529: "overloaded",
}
"""What an HTTP status means where the backend's own words say no more."""

_LONGEST_QUOTE = 300


def origin(base_url: str) -> str:
    """Scheme, host and port of an address, which is all of it that messages show."""
    parts = urlsplit(base_url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}"


def _is_no_request(record: logging.LogRecord) -> bool:
    return record.levelno > logging.DEBUG


class _Timed(httpx2.AsyncByteStream):
    """The parts of an answer, whose arrival is told to a clock."""

    def __init__(self, parts: httpx2.AsyncByteStream, clock: Clock) -> None:
        self._parts = parts
        self._clock = clock

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._parts:
            self._clock.heard()
            yield part

    async def aclose(self) -> None:
        await self._parts.aclose()


async def _leaves(_: httpx2.Request) -> None:
    if clock := CURRENT.get():
        clock.sent()


async def _answers(response: httpx2.Response) -> None:
    if (clock := CURRENT.get()) and isinstance(response.stream, httpx2.AsyncByteStream):
        response.stream = _Timed(response.stream, clock)


TIMED: Mapping[str, list[Callable[..., Any]]] = {"request": [_leaves], "response": [_answers]}
"""What a client of the HTTP library calls so that the running call's `Clock` is told its times."""


def http_client(base_url: str, limits: Limits) -> httpx2.AsyncClient:
    """The connections of one provider.

    Redirects are not followed: they would carry a report to a host that nobody chose. On loopback
    the environment's proxies are passed over. Only connecting is limited here; `Clock` does the rest.
    The SDKs that use it tell their log every request, prompt and all, at the level DEBUG; that is
    kept out.
    """
    for sdk in ("anthropic", "openai"):
        logging.getLogger(f"{sdk}._base_client").addFilter(_is_no_request)
    from_environment = not is_loopback(base_url)
    return httpx2.AsyncClient(
        verify=_certificates(from_environment),
        timeout=timeout(limits),
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=32),
        follow_redirects=False,
        trust_env=from_environment,
        event_hooks=TIMED,
    )


@cache
def _certificates(from_environment: bool) -> ssl.SSLContext:
    """Whom to trust; reading it takes so long that it is done once for all clients."""
    return httpx2.create_ssl_context(trust_env=from_environment)


def timeout(limits: Limits) -> httpx2.Timeout:
    """The limits as far as the HTTP library holds them."""
    return httpx2.Timeout(None, connect=limits.connect_s)


def usable_key(provider: str, key: SecretStr | None, variable: str) -> str:
    """The key as it goes into a header.

    Raises:
        ProviderError: (``bad_key``) there is none, or it cannot be one.
    """
    text = key.get_secret_value().strip() if key else ""
    if not text:
        raise ProviderError(provider, f"there is no API key; set {variable}", kind="bad_key")
    if not text.isascii() or not text.isprintable() or " " in text:
        # An HTTP library would quote the whole header when it refuses it.
        raise ProviderError(
            provider,
            f"the API key has characters that no key has; copy it into {variable} again",
            kind="bad_key",
        )
    return text


def quoted(text: object, key: str) -> str:
    """What a backend said, as one short line without the key."""
    line = " ".join(str(text).split())
    if key:
        line = line.replace(key, "***")
    return line if len(line) <= _LONGEST_QUOTE else f"{line[: _LONGEST_QUOTE - 1]}…"


def wait_s(headers: Mapping[str, str]) -> float | None:
    """Seconds that ``Retry-After`` asks to wait, given as a number or as a date."""
    value = headers.get("retry-after", "").strip()
    try:
        seconds = float(value)
    except ValueError:
        try:
            when = parsedate_to_datetime(value)
        except ValueError:
            return None
        if when.tzinfo is None:
            when = when.replace(tzinfo=UTC)
        seconds = (when - datetime.now(UTC)).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None


def broken(provider: str, error: BaseException, base_url: str, limits: Limits) -> ProviderError:
    """The failure behind an error of the connection, or of the SDK that wraps one."""
    cause = error if isinstance(error, httpx2.HTTPError) else error.__cause__
    address = origin(base_url)
    if isinstance(cause, httpx2.ConnectTimeout):
        return timed_out(provider, "connect", limits.connect_s)
    if isinstance(cause, httpx2.ConnectError):
        return ProviderError(
            provider,
            f"nothing answers at {address} ({quoted(cause, '')}); is it running, and is the network up?",
            kind="not_running",
        )
    if isinstance(cause, httpx2.ReadError | httpx2.WriteError | httpx2.RemoteProtocolError):
        return ProviderError(
            provider, f"the connection to {address} broke before the answer's end", kind="cut_off"
        )
    unreadable = httpx2.DecodingError | ValueError | RecursionError
    if isinstance(cause, unreadable) or isinstance(error, unreadable):
        return malformed(provider)
    return ProviderError(
        provider, f"the call to {address} failed ({type(cause or error).__name__})", kind="backend"
    )


def malformed(provider: str) -> ProviderError:
    """The failure of an answer that is not in the backend's documented form."""
    return ProviderError(provider, "what came back cannot be read", kind="malformed")


def ended_early(provider: str) -> ProviderError:
    """The failure of an answer without its end mark."""
    return ProviderError(provider, "the answer ended without its last part", kind="ended_early")


def model_missing(provider: str, model: str, known: Iterable[str]) -> ProviderError:
    """The failure of a name that the backend does not know, with the nearest that it does."""
    names = sorted(known)
    near = get_close_matches(model, names, n=3, cutoff=0.5) or names[:3]
    there = f"nearest there: {', '.join(near)}" if near else "the backend lists none"
    return ProviderError(
        provider,
        f"there is no model {model!r} for this key ({there}). Run: soma-bench doctor",
        kind="model_missing",
    )
