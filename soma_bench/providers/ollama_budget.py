"""A budget of thinking tokens for models behind Ollama, which has none of its own.

In two phases on one prompt: the model thinks for at most N tokens, its thoughts are closed, and
the answer is generated after them. Both phases are raw, so the prompt must be rendered by the
model's own template first; the server does that itself and is asked for it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from soma_bench.errors import ConfigError
from soma_bench.providers.clock import Clock
from soma_bench.providers.ollama_client import Connection, Json, Wait
from soma_bench.providers.ollama_wire import Said, raw_body, render_body
from soma_bench.types import Chunk, Request

THOUGHTS_OPEN = "<think>"
THOUGHTS_CLOSE = "</think>"


class Budgeted:
    """One request with a budget of thinking tokens.

    Args:
        connection: to the server.
        request: what is asked; its thinking is a number.
        clock: times the call and holds it to its limits.
    """

    def __init__(self, connection: Connection, request: Request, clock: Clock) -> None:
        assert isinstance(request.thinking, int)
        self._connection = connection
        self._request = request
        self._budget = request.thinking
        self._clock = clock
        self.thoughts = Said(request.model)
        self.answer = Said(request.model)
        self.rendered_s = 0.0
        """Time until the prompt was there. The server loads the model to render its prompt, and
        does not say how long that took."""

    async def complete(self) -> None:
        """Think, then answer; fills ``thoughts`` and ``answer``."""
        ask = self._connection.post
        opened = await self._open(self._clock.wait_whole)
        first = self._first(opened, stream=False)
        self.thoughts.take(await self._clock.wait_whole(ask("/api/generate", first)))
        if self.thoughts.done:
            second = self._second(opened, stream=False)
            self.answer.take(await self._clock.wait_whole(ask("/api/generate", second)))

    async def stream(self) -> AsyncGenerator[Chunk]:
        """Think, then answer, piece by piece; fills ``thoughts`` and ``answer``."""
        opened = await self._open(self._clock.wait_next)
        first = self._first(opened, stream=True)
        async with aclosing(self._lines(first)) as lines:
            async for line in lines:
                if text := "".join(self.thoughts.take(line)):
                    self._clock.token(thinking=True)
                    yield Chunk(thinking=text)
        if not self.thoughts.done:
            return
        second = self._second(opened, stream=True)
        async with aclosing(self._lines(second)) as lines:
            async for line in lines:
                if text := "".join(self.answer.take(line)):
                    self._clock.token(thinking=False)
                    yield Chunk(text=text)

    @property
    def thought(self) -> str:
        """The thoughts, whichever field the server put them in."""
        return "".join(self.thoughts.thinking + self.thoughts.text).strip()

    async def _open(self, wait: Wait) -> str:
        """The prompt after which the model thinks.

        Raises:
            ConfigError: the server cannot render prompts.
        """
        body = render_body(self._request)
        answer = await wait(self._connection.post("/api/chat", body))
        self.rendered_s = self._clock.elapsed()
        info = answer.get("_debug_info")
        prompt = info.get("rendered_template") if isinstance(info, dict) else None
        if not isinstance(prompt, str):
            raise ConfigError(
                "ollama: this server cannot show the prompt that a number of thinking tokens needs; "
                f"update Ollama, or give {self._request.model} thinking=off"
            )
        if prompt.rstrip().endswith(THOUGHTS_OPEN):
            return prompt
        return f"{prompt}{THOUGHTS_OPEN}\n"

    def _first(self, opened: str, *, stream: bool) -> Json:
        return raw_body(
            self._request, opened, cap=self._budget, stream=stream, stop=(THOUGHTS_CLOSE,)
        )

    def _second(self, opened: str, *, stream: bool) -> Json:
        closed = f"{opened}{self.thought}\n{THOUGHTS_CLOSE}\n\n"
        body = raw_body(self._request, closed, cap=self._request.max_tokens, stream=stream)
        if self._request.schema is not None:
            body["format"] = dict(self._request.schema)
        return body

    def _lines(self, body: Json) -> AsyncGenerator[Json]:
        return self._connection.lines("/api/generate", body, self._clock.wait_next)
