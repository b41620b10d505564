"""The connection to an Ollama server: JSON in, JSON or JSON lines out, failures by name.

It speaks HTTP itself rather than through the ``ollama`` library, which cannot say
``truncate: false``, drops the ``Retry-After`` of a busy server and the marks of a model that runs
in a cloud, and builds a validated object for every token.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from copy import copy
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx2

from soma_bench.errors import ConfigError, ProviderError, ProviderFailure
from soma_bench.providers import remote
from soma_bench.types import Limits

T = TypeVar("T")
Wait = Callable[[Awaitable[Any]], Awaitable[Any]]
"""Awaits something and gives up when a limit has passed; a `Clock`'s method."""

Json = dict[str, Any]

NAME = "ollama"
DEFAULT_URL = "http://127.0.0.1:11434"

_HEADERS = {"content-type": "application/json", "accept": "application/json"}
_MOST_LINE_BYTES = 16_000_000
_BY_STATUS: Mapping[int, ProviderFailure] = {
    401: "bad_key",
    403: "bad_key",
    404: "model_missing",
    413: "context_too_long",
    429: "rate_limited",
    499: "cut_off",
    503: "overloaded",
}
_MEMORY_WORDS = (
    "more system memory",
    "out of memory",
    "outofmemory",
    "insufficient memory",
    "not enough memory",
    "unable to allocate",
    "failed to allocate",
    "cannot be allocated",
    "cudamalloc failed",
    "signal: killed",
)
_CONTEXT_WORDS = (
    "exceeds the context length",
    "exceeds the available context",
    "exceeds maximum context",
    "exceed context window",
    "context length exceeded",
    "exceed_context_size",
    "prompt is too long",
    "input is too long",
)
_QUEUE_WORDS = ("server busy", "maximum pending requests")


class Connection:
    """HTTP to one server, with connections that are kept open.

    Args:
        base_url: the server's address.
        limits: only ``connect_s`` counts here; the caller's clock holds the rest.
        direct: whether the environment's proxies are passed over.

    Raises:
        ConfigError: the address is not a plain http or https URL.
    """

    def __init__(self, base_url: str, limits: Limits, *, direct: bool) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise ConfigError(
                "ollama: the base URL must be a plain http:// or https:// URL "
                f"such as {DEFAULT_URL}, without a user name or password"
            )
        self.base_url = base_url.rstrip("/")
        self._limits = limits
        self._timeout = remote.timeout(limits)
        # Redirects are not followed: they would carry a report to a host that nobody chose.
        self._http = httpx2.AsyncClient(
            headers=_HEADERS,
            # Plain HTTP without a proxy has no certificates to read, which takes a while.
            verify=not (direct and parts.scheme == "http"),
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=32),
            follow_redirects=False,
            trust_env=not direct,
            event_hooks=remote.TIMED,
        )

    def within(self, limits: Limits) -> Connection:
        """The same connections, with another limit for connecting."""
        if limits.connect_s == self._limits.connect_s:
            return self
        other = copy(self)
        other._limits, other._timeout = limits, remote.timeout(limits)
        return other

    async def get(self, path: str) -> Json:
        """Ask for a JSON object.

        Raises:
            ProviderError: the server did not give one.
        """
        try:
            return await self._ask("GET", path, None)
        except ProviderError as error:
            if error.kind != "model_missing":
                raise
            where = remote.origin(self.base_url)
            raise ProviderError(
                NAME, f"what answers at {where} is not Ollama: it has no {path}", kind="backend"
            ) from None

    async def post(self, path: str, body: Json) -> Json:
        """Send a JSON object and get one back.

        Raises:
            ProviderError: the server did not give one.
        """
        return await self._ask("POST", path, body)

    async def lines(self, path: str, body: Json, wait: Wait) -> AsyncGenerator[Json]:
        """Send a JSON object and get one a line back, as they come; closing it ends the server's work.

        Args:
            path: where to.
            body: what to send.
            wait: awaits each next part of the answer within its limit.

        Raises:
            ProviderError: the server failed, said so, or sent what is not JSON lines.
        """
        request = self._http.build_request(
            "POST", self.base_url + path, content=_encoded(body), timeout=self._timeout
        )
        response: httpx2.Response | None = None
        try:
            response = await wait(self._http.send(request, stream=True))
            assert response is not None
            if response.status_code != 200:
                await wait(response.aread())
                raise _refused(response)
            parts = response.aiter_bytes()
            rest = b""
            while (part := await wait(anext(parts, None))) is not None:
                *whole, rest = (rest + part).split(b"\n")
                for line in whole:
                    if line.strip():
                        yield _line(line)
                if len(rest) > _MOST_LINE_BYTES:
                    raise remote.malformed(NAME)
            if rest.strip():
                yield _line(rest)
        except httpx2.HTTPError as error:
            raise self._broken(error) from None
        finally:
            if response is not None:
                await response.aclose()

    async def close(self) -> None:
        """Close every connection."""
        await self._http.aclose()

    async def _ask(self, method: str, path: str, body: Json | None) -> Json:
        content = None if body is None else _encoded(body)
        try:
            response = await self._http.request(
                method, self.base_url + path, content=content, timeout=self._timeout
            )
        except httpx2.HTTPError as error:
            raise self._broken(error) from None
        if response.status_code != 200:
            raise _refused(response)
        return _line(response.content)

    def _broken(self, error: httpx2.HTTPError) -> ProviderError:
        if isinstance(error, httpx2.ConnectError):
            return ProviderError(
                NAME,
                f"nothing answers at {remote.origin(self.base_url)}. Run: ollama serve, or set "
                "OLLAMA_BASE_URL",
                kind="not_running",
            )
        return remote.broken(NAME, error, self.base_url, self._limits)


def _encoded(body: Json) -> bytes:
    return json.dumps(body, ensure_ascii=False, allow_nan=False).encode()


def _line(data: bytes) -> Json:
    """One JSON object, unless it says that the server failed."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise remote.malformed(NAME) from None
    if not isinstance(value, dict):
        raise remote.malformed(NAME)
    if "error" in value:
        raise failure(None, value["error"], {})
    return value


def _refused(response: httpx2.Response) -> ProviderError:
    """The failure behind a status that is not 200."""
    try:
        value = json.loads(response.content)
        text = value["error"]
    except (ValueError, RecursionError, KeyError, TypeError):
        text = response.content[:1000].decode(errors="replace")
    return failure(response.status_code, text, response.headers)


def failure(status: int | None, text: object, headers: Mapping[str, str]) -> ProviderError:
    """Name a failure by what the server says, and by its status where the words are not enough.

    Args:
        status: of the answer; None for an error inside it.
        text: what the server says.
        headers: of the answer.
    """
    said = remote.quoted(text, "") or "(no reason given)"
    kind = _kind(status, said.lower())
    if kind == "out_of_memory":
        said += "; unload other models, or choose a smaller model, quantization or context"
    elif kind == "context_too_long":
        said += "; shorten the prompt or raise context_tokens"
    where = "" if status is None else f" (status {status})"
    wait_s = remote.wait_s(headers) if kind in ("rate_limited", "overloaded") else None
    return ProviderError(NAME, f"{said}{where}", kind=kind, wait_s=wait_s)


def _kind(status: int | None, said: str) -> ProviderFailure:
    if any(words in said for words in _MEMORY_WORDS):
        return "out_of_memory"
    if any(words in said for words in _CONTEXT_WORDS):
        return "context_too_long"
    if any(words in said for words in _QUEUE_WORDS):
        return "overloaded"
    if status is None:
        return "backend"
    return _BY_STATUS.get(status, "bad_request" if 400 <= status < 500 else "backend")
