"""Provider ``claude``: Anthropic's Messages API, or a server that speaks it.

Thinking is a matter of the model, and the API says what each takes: ``off`` (as ``disabled`` or
``between_tools``), a level (adaptive thinking with an effort), or a number of tokens. The API has
one cap for thoughts and answer; it gets the budget, or the level's allowance, on top of the
answer's ``max_tokens``.

Sampling: models up to the 4.6 generation take ``temperature`` and ``top_p``, by the API's version
of 2023, one of the two at a time (``top_p`` where it is given), a temperature of at most 1, and
neither while they think. Later models sample as they do, none takes a seed, and the context window
is the model's own: what a model does not take is not sent, so that one sweep can hold for all its
targets, and greedy decoding is no promise of this provider.

The SDK has the connection, the key, the errors and the events of a stream. Its typed methods are
passed over: making models of every event takes much of the CPU time of a call, and what comes in is
checked where it is read, since the SDK does not. ``messages.create`` also warns of a retiring model
at each call, through the process's warnings; `soma_bench.providers.lifecycle` is where that is told.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from importlib.metadata import version

import anthropic
import httpx2
from anthropic import AsyncAnthropic, AsyncStream
from anthropic.types import ModelInfo
from pydantic import SecretStr

from soma_bench.errors import ProviderError, ProviderFailure
from soma_bench.providers import remote
from soma_bench.providers.base import Availability, Capabilities
from soma_bench.providers.claude_messages import SAMPLING_VERSION, Call
from soma_bench.providers.claude_models import ClaudeModel, from_api, from_table, names
from soma_bench.providers.clock import Clock
from soma_bench.types import (
    Chunk,
    Completion,
    Limits,
    ModelIdentity,
    ProviderName,
    Request,
)

DEFAULT_BASE_URL = "https://api.anthropic.com"
KEY_VARIABLE = "ANTHROPIC_API_KEY"
_MESSAGES = "/v1/messages"

_ERRORS = (anthropic.AnthropicError, httpx2.HTTPError, ValueError, RecursionError)
"""What the SDK lets through: its own errors, those of a connection that breaks while an answer is
read, and those of JSON or UTF-8 that cannot be decoded."""

_BY_TYPE: Mapping[str, ProviderFailure] = {
    "authentication_error": "bad_key",
    "permission_error": "bad_key",
    "billing_error": "bad_key",
    "rate_limit_error": "rate_limited",
    "overloaded_error": "overloaded",
    "not_found_error": "model_missing",
    "invalid_request_error": "bad_request",
    "request_too_large": "bad_request",
    "api_error": "backend",
    "timeout_error": "backend",
}


class Claude:
    """Asks Claude's models.

    Args:
        base_url: address of the API; Anthropic's own by default.
        api_key: the key; a call without one fails before anything is sent.
        limits: when to give up, where the request does not say.
    """

    name: ProviderName = "claude"
    is_local = False

    def __init__(
        self,
        *,
        base_url: str | None = None,
        api_key: SecretStr | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._base_url = base_url or DEFAULT_BASE_URL
        self._api_key = api_key
        self._limits = limits or Limits()
        self._http = remote.http_client(self._base_url, self._limits)
        self._made: AsyncAnthropic | None = None
        self._models: dict[str, ClaudeModel] = {}

    async def complete(self, request: Request) -> Completion:
        """Answer one request."""
        limits = request.limits or self._limits
        client = self._client()
        model = await self._model(request.model, limits)
        call = Call(request, model)
        clock = Clock("claude", limits)
        try:
            answer = await clock.wait_whole(
                client.post(
                    _MESSAGES,
                    body=call.body,
                    options={"headers": call.headers, "timeout": remote.timeout(limits)},
                    cast_to=httpx2.Response,
                )
            )
            heard = answer.json()
        except _ERRORS as error:
            failure = self._failure(error, limits)
        else:
            return call.read(heard, clock)
        # Outside of the block, so that no error of the SDK, which holds the request's headers, is
        # in the failure's chain.
        raise await self._explained(failure, request.model)

    async def stream(self, request: Request) -> AsyncIterator[Chunk]:
        """Answer one request piece by piece; closing the iterator closes the connection."""
        limits = request.limits or self._limits
        client = self._client()
        model = await self._model(request.model, limits, streaming=True)
        call = Call(request, model)
        clock = Clock("claude", limits)
        opened: AsyncStream[object] | None = None
        try:
            opened = events = await clock.wait_next(
                client.post(
                    _MESSAGES,
                    body={**call.body, "stream": True},
                    options={"headers": call.headers, "timeout": remote.timeout(limits)},
                    cast_to=object,
                    stream=True,
                    stream_cls=AsyncStream[object],
                )
            )
            while (event := await clock.wait_next(anext(events, None))) is not None:
                if (chunk := call.hear(event)) is None:
                    continue
                clock.token(thinking=not chunk.text)
                yield chunk
        except _ERRORS as error:
            failure = self._failure(error, limits)
        else:
            yield Chunk(completion=call.whole(clock))
            return
        finally:
            if opened is not None:
                await opened.close()
        raise await self._explained(failure, request.model)

    async def available(self) -> Availability:
        """The models that the key may use."""
        try:
            return Availability(await self._listed(self._limits))
        except ProviderError as error:
            return Availability((), str(error))

    async def capabilities(self, model: str) -> Capabilities:
        """What a model can do, as the API says, or else as the table has it."""
        if self._api_key is None:
            return from_table(model).capabilities
        return (await self._model(model, self._limits)).capabilities

    async def identity(self, model: str) -> ModelIdentity:
        """The API that runs the model; no digest of its weights is published."""
        api = f" {SAMPLING_VERSION}" if from_table(model).sampling else ""
        place = "" if self._base_url == DEFAULT_BASE_URL else f" at {remote.origin(self._base_url)}"
        return ModelIdentity(
            weights_digest=None,
            chat_template=None,
            engine=f"Claude API{api}{place}, anthropic {version('anthropic')}",
        )

    async def memory_bytes(self, model: str) -> int | None:  # noqa: ARG002
        """None: the model runs elsewhere."""
        return None

    async def unload(self, keep: frozenset[str] = frozenset()) -> None:
        """Nothing is loaded on this machine."""

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    def _client(self) -> AsyncAnthropic:
        key = remote.usable_key("claude", self._api_key, KEY_VARIABLE)
        if self._made is None:
            self._made = AsyncAnthropic(
                api_key=key,
                base_url=self._base_url,
                max_retries=0,
                http_client=self._http,
            )
        return self._made

    async def _model(self, name: str, limits: Limits, *, streaming: bool = False) -> ClaudeModel:
        """What a model takes; asked of the API once.

        Raises:
            ProviderError: nothing answers, not in time, or the key is refused. Any other failure is
                left to the call itself, and the table is used.
        """
        if name in self._models:
            return self._models[name]
        client = self._client()
        clock = Clock("claude", limits)
        wait = clock.wait_next if streaming else clock.wait_whole
        failure: ProviderError | None = None
        try:
            info = await wait(client.models.retrieve(name, timeout=remote.timeout(limits)))
            found = from_api(info) if isinstance(info, ModelInfo) else from_table(name)
        except AttributeError:
            # The SDK does not check what it reads: a compatible server may say less.
            found = from_table(name)
        except _ERRORS as error:
            failure, found = self._failure(error, limits), from_table(name)
        if failure is not None:
            if failure.kind in ("not_running", "bad_key", "timeout"):
                raise failure
            if failure.kind not in ("model_missing", "bad_request", "malformed"):
                return found
        self._models[name] = found
        return found

    async def _listed(self, limits: Limits) -> tuple[str, ...]:
        client = self._client()
        clock = Clock("claude", limits)
        try:
            page = await clock.wait_whole(
                client.models.list(limit=1000, timeout=remote.timeout(limits))
            )
            return tuple(
                str(info.id)
                for info in page.data
                # Compatible servers, and older ones, do not speak of it.
                if getattr(info, "lifecycle", None) != "retired"
            )
        except (AttributeError, TypeError):
            failure = remote.malformed("claude")
        except _ERRORS as error:
            failure = self._failure(error, limits)
        raise failure

    async def _explained(self, failure: ProviderError, model: str) -> ProviderError:
        """A failure, with the nearest names where it is that of a name."""
        if failure.kind != "model_missing":
            return failure
        try:
            async with asyncio.timeout(self._limits.connect_s):
                known = await self._listed(self._limits)
        except (ProviderError, TimeoutError):
            known = names()
        return remote.model_missing("claude", model, known)

    def _failure(self, error: BaseException, limits: Limits) -> ProviderError:
        """The failure that an error of the SDK stands for."""
        if not isinstance(error, anthropic.APIStatusError):
            return remote.broken("claude", error, self._base_url, limits)
        key = self._api_key.get_secret_value().strip() if self._api_key else ""
        kind = remote.FAILURE_BY_STATUS.get(error.status_code) or _BY_TYPE.get(
            str(error.type), "backend"
        )
        if error.type == "overloaded_error":
            kind = "overloaded"
        text = remote.quoted(error.api_message or error.message, key)
        if kind == "bad_request":
            kind = _of_bad_request(error.type, text)
        if kind == "bad_key":
            # Without the backend's words: those of a refused key may hold a part of it.
            reason = (
                "the account has no credit or has reached its limit; see its billing page"
                if error.type == "billing_error" or error.status_code in (400, 402)
                else f"the API key is refused or may not do this (HTTP {error.status_code}); check {KEY_VARIABLE}"
            )
            return ProviderError("claude", reason, kind=kind)
        return ProviderError(
            "claude",
            f"{text} (HTTP {error.status_code}, request {error.request_id or 'without an id'})",
            kind=kind,
            wait_s=remote.wait_s(error.response.headers),
        )


def _of_bad_request(error_type: str | None, text: str) -> ProviderFailure:
    """What a request was refused for; Anthropic has one type for all of it, llama.cpp its own."""
    words = text.lower()
    if error_type == "exceed_context_size_error" or any(
        known in words for known in ("prompt is too long", "context window", "context limit")
    ):
        return "context_too_long"
    if error_type == "billing_error" or "credit balance" in words or "usage limits" in words:
        return "bad_key"
    return "bad_request"
