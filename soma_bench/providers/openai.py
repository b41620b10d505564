"""Provider ``openai``: OpenAI's Chat Completions API, or any server that speaks it.

OpenAI's own models are known by name (`soma_bench.providers.openai_models`). Thinking is a level
or, where the model can, ``off``; the API takes no budget. Its one cap for thoughts and answer gets
the level's allowance on top of the answer's ``max_tokens``. Sampling parameters and the seed go to
the models that take them, and are left out for the others, so that one sweep can hold for all its
targets; greedy decoding is no promise of this provider, and the context window is the model's own.

Any other name belongs to a compatible server (llama.cpp, vLLM, an MLX server), which is asked for
its list of models once. What such a server spends thinking counts within ``max_tokens``, as long as
it cannot be told not to think.

The SDK has the connection, the key, the errors and the events of a stream. Its typed methods are
passed over: turning a request into its types and each chunk of an answer into a model takes most of
the CPU time of a call, and what comes in is checked where it is read, since the SDK does not.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from importlib.metadata import version
from typing import Any

import httpx2
import openai
from openai import AsyncOpenAI, AsyncStream
from pydantic import SecretStr

from soma_bench.errors import ProviderError, ProviderFailure
from soma_bench.providers import remote
from soma_bench.providers.base import Availability, Capabilities
from soma_bench.providers.clock import Clock
from soma_bench.providers.openai_chat import Call
from soma_bench.providers.openai_models import (
    UNKNOWN,
    OpenAIModel,
    from_listing,
    from_table,
    names,
)
from soma_bench.types import (
    Chunk,
    Completion,
    Limits,
    ModelIdentity,
    ProviderName,
    Request,
)

DEFAULT_BASE_URL = "https://api.openai.com/v1"
KEY_VARIABLE = "OPENAI_API_KEY"
_NO_KEY = "none"
"""What the SDK gets for a server on this machine that asks for no key."""

_CHAT = "/chat/completions"

_ERRORS = (openai.OpenAIError, httpx2.HTTPError, ValueError, RecursionError)
"""What the SDK lets through: its own errors, and those of JSON or UTF-8 that cannot be decoded."""

_BY_CODE: Mapping[str, ProviderFailure] = {
    "context_length_exceeded": "context_too_long",
    "exceed_context_size_error": "context_too_long",
    # No money left is no matter of waiting: like a refused key, another try does not help.
    "insufficient_quota": "bad_key",
    "billing_hard_limit_reached": "bad_key",
    "invalid_api_key": "bad_key",
    "model_not_found": "model_missing",
    "rate_limit_exceeded": "rate_limited",
    "server_overloaded": "overloaded",
}

_BY_WORDS: Mapping[str, ProviderFailure] = {
    "maximum context length": "context_too_long",
    "available context size": "context_too_long",
    "image input is not supported": "bad_request",
    "out of memory": "out_of_memory",
    "overloaded": "overloaded",
}
"""What compatible servers say where they have no code for it."""


class OpenAI:
    """Asks OpenAI's models, or those of a compatible server.

    Args:
        base_url: address of the API, with its version; OpenAI's own by default.
        api_key: the key; a server on this machine can do without. Elsewhere a call without one
            fails before anything is sent.
        limits: when to give up, where the request does not say.
    """

    name: ProviderName = "openai"
    is_local = False

    def __init__(
        self,
        *,
        base_url: str | None = None,
        api_key: SecretStr | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._base_url = base_url or DEFAULT_BASE_URL
        if api_key is None and remote.is_loopback(self._base_url):
            api_key = SecretStr(_NO_KEY)
        self._api_key = api_key
        self._limits = limits or Limits()
        self._http = remote.http_client(self._base_url, self._limits)
        self._made: AsyncOpenAI | None = None
        self._models: dict[str, OpenAIModel] = {}

    async def complete(self, request: Request) -> Completion:
        """Answer one request."""
        limits = request.limits or self._limits
        client = self._client()
        model = await self._model(request.model, limits)
        call = Call(request, model)
        clock = Clock("openai", limits)
        try:
            answer = await clock.wait_whole(
                client.post(
                    _CHAT,
                    body=call.body,
                    options={"timeout": remote.timeout(limits)},
                    cast_to=httpx2.Response,
                )
            )
            heard = answer.json()
        except _ERRORS as error:
            failure = self._failure(error, limits)
        else:
            return call.read(heard, clock)
        raise await self._explained(failure, request.model)

    async def stream(self, request: Request) -> AsyncIterator[Chunk]:
        """Answer one request piece by piece; closing the iterator closes the connection."""
        limits = request.limits or self._limits
        client = self._client()
        model = await self._model(request.model, limits, streaming=True)
        call = Call(request, model)
        clock = Clock("openai", limits)
        opened: AsyncStream[object] | None = None
        try:
            opened = chunks = await clock.wait_next(
                client.post(
                    _CHAT,
                    body={**call.body, "stream": True, "stream_options": {"include_usage": True}},
                    options={"timeout": remote.timeout(limits)},
                    cast_to=object,
                    stream=True,
                    stream_cls=AsyncStream[object],
                )
            )
            while (heard := await clock.wait_next(anext(chunks, None))) is not None:
                if (chunk := call.hear(heard)) is None:
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
        """The models that the backend lists."""
        try:
            return Availability(tuple(await self._listed(self._limits)))
        except ProviderError as error:
            return Availability((), str(error))

    async def capabilities(self, model: str) -> Capabilities:
        """What a model can do: by the table for OpenAI's own, else as the server's list tells."""
        if from_table(model) is None and self._api_key is None:
            return UNKNOWN.capabilities
        return (await self._model(model, self._limits)).capabilities

    async def identity(self, model: str) -> ModelIdentity:  # noqa: ARG002
        """The API that runs the model; no digest of its weights is published."""
        place = "" if self._base_url == DEFAULT_BASE_URL else f" at {remote.origin(self._base_url)}"
        return ModelIdentity(
            weights_digest=None,
            chat_template=None,
            engine=f"OpenAI API{place}, openai {version('openai')}",
        )

    async def memory_bytes(self, model: str) -> int | None:  # noqa: ARG002
        """None: the model runs in a process that is not ours."""
        return None

    async def unload(self, keep: frozenset[str] = frozenset()) -> None:
        """Nothing is loaded by this provider."""

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    def _client(self) -> AsyncOpenAI:
        key = remote.usable_key("openai", self._api_key, KEY_VARIABLE)
        if self._made is None:
            self._made = AsyncOpenAI(
                api_key=key,
                base_url=self._base_url,
                max_retries=0,
                http_client=self._http,
            )
        return self._made

    async def _model(self, name: str, limits: Limits, *, streaming: bool = False) -> OpenAIModel:
        """What a model takes; a compatible server is asked once.

        Raises:
            ProviderError: nothing answers, not in time, the key is refused, or a llama.cpp server
                has another model than this, which it would answer with. Any other failure is left
                to the call itself.
        """
        if name not in self._models:
            found = from_table(name)
            if found is None:
                try:
                    listed = await self._listed(limits, streaming=streaming)
                except ProviderError as error:
                    if error.kind in ("not_running", "bad_key", "timeout"):
                        raise
                    if error.retryable and error.kind != "malformed":
                        return UNKNOWN
                    listed = {}
                found = _among(listed, name)
            self._models[name] = found
        return self._models[name]

    async def _listed(
        self, limits: Limits, *, streaming: bool = False
    ) -> dict[str, Mapping[str, Any]]:
        """What the backend's list says of each model, by its name."""
        client = self._client()
        clock = Clock("openai", limits)
        wait = clock.wait_next if streaming else clock.wait_whole
        try:
            page = await wait(client.models.with_raw_response.list(timeout=remote.timeout(limits)))
            entries = page.http_response.json()["data"]
            listed = {str(entry["id"]): entry for entry in entries}
        except _ERRORS as error:
            failure = self._failure(error, limits)
        except (KeyError, TypeError):
            failure = remote.malformed("openai")
        else:
            return listed
        # Outside of the block, so that no error of the SDK, which holds the request's headers, is
        # in the failure's chain.
        raise failure

    async def _explained(self, failure: ProviderError, model: str) -> ProviderError:
        """A failure, with the nearest names where it is that of a name."""
        if failure.kind != "model_missing":
            return failure
        known: tuple[str, ...]
        try:
            async with asyncio.timeout(self._limits.connect_s):
                known = tuple(await self._listed(self._limits))
        except (ProviderError, TimeoutError):
            known = () if from_table(model) is None else names()
        return remote.model_missing("openai", model, known)

    def _failure(self, error: BaseException, limits: Limits) -> ProviderError:
        """The failure that an error of the SDK stands for."""
        if isinstance(error, openai.APIConnectionError) or not isinstance(error, openai.APIError):
            return remote.broken("openai", error, self._base_url, limits)
        status = error.status_code if isinstance(error, openai.APIStatusError) else None
        kind = _kind(error, status)
        if kind == "bad_key":
            # Without the backend's words: those of a refused key hold a part of it.
            reason = (
                "the account has no credit left; see its billing page"
                if error.code not in (None, "invalid_api_key") and status not in (401, 403)
                else f"the API key is refused or may not do this (HTTP {status}); check {KEY_VARIABLE}"
            )
            return ProviderError("openai", reason, kind=kind)
        key = self._api_key.get_secret_value().strip() if self._api_key else ""
        body = error.body
        said = body.get("message") if isinstance(body, Mapping) else None
        where = f" (HTTP {status})" if status else " (in the middle of the answer)"
        return ProviderError(
            "openai",
            remote.quoted(said or error.message, key) + where,
            kind=kind,
            wait_s=remote.wait_s(error.response.headers)
            if isinstance(error, openai.APIStatusError)
            else None,
        )


def _kind(error: openai.APIError, status: int | None) -> ProviderFailure:
    for code in (error.code, error.type):
        if known_kind := _BY_CODE.get(str(code)):
            return known_kind
    if status in (401, 403, 404, 429):
        return remote.FAILURE_BY_STATUS[status]
    words = f"{error.message} {error.type}".lower()
    for known, kind in _BY_WORDS.items():
        if known in words:
            return kind
    return remote.FAILURE_BY_STATUS.get(status or 0, "backend")


def _among(listed: Mapping[str, Mapping[str, Any]], name: str) -> OpenAIModel:
    """What a compatible server's list says of a model.

    Raises:
        ProviderError: (``model_missing``) the server answers whatever name it is asked for, and
            this is not the name of its model.
    """
    for entry in listed.values():
        if name == entry["id"] or name in (entry.get("aliases") or ()):
            return from_listing(entry)
    if any(entry.get("owned_by") == "llamacpp" for entry in listed.values()):
        raise remote.model_missing("openai", name, listed)
    return UNKNOWN
