"""The process in which MLX runs: one model, one request at a time, JSON lines in and out.

It is a process of its own because what goes wrong in Metal ends the process it happens in, and
because only its end gives all of a model's memory back. In come ``open`` (a folder; answered by what
the tokenizer and its chat template tell), ``load`` (the weights), ``answer`` and ``stop``; out go
``opened``, ``loaded``, any number of ``text``, and one of ``done``, ``stopped`` or ``error``. The end
of its input, which is also what the death of its parent looks like, ends it at once.

What libraries print goes to stderr, and what they would read is empty: stdin and stdout belong to
the protocol.
"""

from __future__ import annotations

import json
import os
import queue
import threading
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

_PREFILL_STEP = 512
"""Prompt tokens read at a time. The request to stop is looked for between the steps."""
OUT_OF_MEMORY = ("insufficient memory", "outofmemory", "out of memory", "unable to allocate")
"""What a failure says, in small letters, when memory ran out."""


class _Stopped(Exception):  # noqa: N818 - no error: the parent asked for it
    """The parent does not want the rest of the answer."""


class _Refused(Exception):  # noqa: N818 - named for what it says
    """The request cannot be answered; ``kind`` is a `ProviderError`'s."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class _Channel:
    """The two ends of the pipe to the parent."""

    def __init__(self) -> None:
        self._in = os.fdopen(os.dup(0), encoding="utf-8")
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        with Path(os.devnull).open("rb") as nothing:
            os.dup2(nothing.fileno(), 0)
        os.dup2(2, 1)
        self.requests: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._stop = -1
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in self._in:
            message = json.loads(line)
            if message["op"] == "stop":
                self._stop = message["id"]
            else:
                self.requests.put(message)
        os._exit(0)

    def send(self, event: str, **fields: Any) -> None:
        self._out.write(json.dumps({"event": event, **fields}) + "\n")
        self._out.flush()

    def check(self, request_id: int) -> None:
        if self._stop == request_id:
            raise _Stopped


class Thoughts:
    """Text up to a closing tag that may come in pieces.

    Args:
        close: the tag.
    """

    def __init__(self, close: str) -> None:
        self._close = close
        self._all = ""
        self._told = 0

    @property
    def closed(self) -> bool:
        """Whether the tag has come."""
        return self._close in self._all

    @property
    def text(self) -> str:
        """What came before the tag."""
        return self._all.partition(self._close)[0]

    @property
    def rest(self) -> str:
        """What came after the tag in the same piece."""
        return self._all.partition(self._close)[2]

    def take(self, piece: str) -> str:
        """Add a piece; what is certain by now to be no part of the tag, and was not before."""
        self._all += piece
        certain = len(self.text)
        if not self.closed:
            certain -= next(
                n for n in range(len(self._close), -1, -1) if self.text.endswith(self._close[:n])
            )
        return self._tell_up_to(certain)

    def left(self) -> str:
        """What `take` held back, now that no further piece will come."""
        return self._tell_up_to(len(self.text))

    def _tell_up_to(self, place: int) -> str:
        told, self._told = self._told, max(self._told, place)
        return self._all[told : self._told]


class _Tokens:
    """A conversation in tokens, and the model's cache of them."""

    def __init__(self, model: Any, prompt: list[int]) -> None:
        self._model = model
        self._caches = import_module("mlx_lm.models.cache")
        self.all = list(prompt)
        self.cache = self._caches.make_prompt_cache(model)
        self._cached = 0

    def pending(self) -> list[int]:
        """What the model has not read yet; it will have when the next generation begins."""
        pending = self.all[self._cached :]
        self._cached = len(self.all)
        return pending

    def generated(self, token: int) -> None:
        """Take note of a token that the model made, which it has read by then."""
        self.all.append(token)
        self._cached += 1

    def take_back(self) -> None:
        """Forget the last token."""
        self.all.pop()
        if self._caches.can_trim_prompt_cache(self.cache):
            self._caches.trim_prompt_cache(self.cache, 1)
            self._cached -= 1
        else:
            self.cache = self._caches.make_prompt_cache(self._model)
            self._cached = 0


class _Answer:
    """One request on its way: its tokens, its pieces of text, its times.

    Args:
        model: the model, loaded.
        tokenizer: its tokenizer, as mlx-lm wraps it.
        channel: where the text goes.
        request: the message that asked for it.
    """

    def __init__(
        self, model: Any, tokenizer: Any, channel: _Channel, request: dict[str, Any]
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._channel = channel
        self._request = request
        self._window: int = request["context_tokens"]
        self._open, self._close = _tags(tokenizer)
        self._sampler = import_module("mlx_lm.sample_utils").make_sampler(
            temp=request["temperature"], top_p=request["top_p"] or 0.0
        )
        self._prefill_s = self._decode_s = 0.0
        self._generated = 0

    def run(self) -> dict[str, Any]:
        """Think if asked to, then answer; the fields of ``done``."""
        mx = import_module("mlx.core")
        if self._request["seed"] is not None:
            mx.random.seed(self._request["seed"])
        budget: int | None = self._request["thinking"]
        prompt = self._prompt(thinking=budget is not None)
        tokens = _Tokens(self._model, prompt)
        thoughts = begun = ""
        thinking_tokens = 0
        if budget is not None:
            thoughts, begun = self._think(tokens, budget)
            thinking_tokens = self._generated
        text, finish = self._speak(tokens, begun)
        return {
            "text": text,
            "thinking": thoughts,
            "finish": finish,
            "prompt_tokens": len(prompt),
            "thinking_tokens": thinking_tokens,
            "output_tokens": self._generated,
            "prefill_s": self._prefill_s,
            "decode_s": self._decode_s,
            "memory_bytes": mx.get_peak_memory(),
        }

    def _prompt(self, *, thinking: bool) -> list[int]:
        text = _render(self._tokenizer, self._request["messages"], thinking=thinking)
        if thinking and not text.rstrip().endswith(self._open):
            text += f"{self._open}\n"
        bos = self._tokenizer.bos_token
        prompt: list[int] = self._tokenizer.encode(
            text, add_special_tokens=bos is None or not text.startswith(bos)
        )
        if len(prompt) >= self._window:
            raise _Refused(
                "context_too_long",
                f"the prompt has {len(prompt)} tokens, and the context is {self._window}; "
                "shorten the prompt or ask for a longer context",
            )
        return prompt

    def _think(self, tokens: _Tokens, budget: int) -> tuple[str, str]:
        """The thoughts, closed in ``tokens``, and what of the answer came with their closing tag."""
        thoughts, ended = Thoughts(self._close), False
        for piece, finish in self._generate(tokens, min(budget, self._room(tokens))):
            ended = finish == "stop"
            self._tell(thoughts.take(piece), thinking=True)
            if thoughts.closed:
                break
        self._tell(thoughts.left(), thinking=True)
        if thoughts.closed:
            self._append(tokens, "" if thoughts.rest.strip() else "\n\n"[len(thoughts.rest) :])
            return thoughts.text.strip(), thoughts.rest.lstrip()
        if ended:
            # A model that ends its turn while it thinks still owes the answer.
            tokens.take_back()
        line_end = "" if thoughts.text.endswith("\n") else "\n"
        self._append(tokens, f"{line_end}{self._close}\n\n")
        return thoughts.text.strip(), ""

    def _speak(self, tokens: _Tokens, begun: str) -> tuple[str, str]:
        """The answer, and whether it ended by itself (``stop``) or at its limit (``length``)."""
        text, finish = begun, "length"
        self._tell(begun, thinking=False)
        most: int = self._request["max_tokens"]
        allowed = min(most, self._room(tokens))
        for piece, reason in self._generate(tokens, allowed):
            text += piece
            finish = reason or finish
            self._tell(piece, thinking=False)
        if finish == "length" and allowed < most:
            raise self._outgrown()
        return text, finish

    def _generate(self, tokens: _Tokens, max_tokens: int) -> Iterator[tuple[str, str | None]]:
        """Continue the conversation: the text of each step, and at the last why it ended."""

        def check(*_: int) -> None:
            self._channel.check(self._request["id"])

        pending = tokens.pending()
        step = None
        try:
            for step in import_module("mlx_lm.generate").stream_generate(
                self._model,
                self._tokenizer,
                pending,
                max_tokens=max_tokens,
                sampler=self._sampler,
                prompt_cache=tokens.cache,
                prefill_step_size=_PREFILL_STEP,
                prompt_progress_callback=check,
            ):
                check()
                tokens.generated(step.token)
                yield step.text, step.finish_reason
        finally:
            if step is not None:
                self._generated += step.generation_tokens
                self._prefill_s += step.prompt_tokens / step.prompt_tps
                self._decode_s += step.generation_tokens / step.generation_tps

    def _append(self, tokens: _Tokens, text: str) -> None:
        """Put text into the conversation; without any, its last token is read once more."""
        if text:
            tokens.all += self._tokenizer.encode(text, add_special_tokens=False)
        else:
            last = tokens.all[-1]
            tokens.take_back()
            tokens.all.append(last)

    def _room(self, tokens: _Tokens) -> int:
        room = self._window - len(tokens.all)
        if room < 1:
            raise self._outgrown()
        return room

    def _outgrown(self) -> _Refused:
        return _Refused(
            "context_too_long",
            f"prompt and answer need more than the context of {self._window} tokens",
        )

    def _tell(self, text: str, *, thinking: bool) -> None:
        if text:
            self._channel.send("text", text=text, thinking=thinking)


def _tags(tokenizer: Any) -> tuple[str, str]:
    """What opens and closes the thoughts of a model."""
    return tokenizer.think_start or "<think>", tokenizer.think_end or "</think>"


def _render(tokenizer: Any, messages: list[dict[str, str]], *, thinking: bool) -> str:
    """The prompt that the model's chat template makes of a conversation."""
    if not tokenizer.has_chat_template:
        raise _Refused("bad_request", "the model has no chat template; choose an instruct model")
    errors = import_module("jinja2").TemplateError
    try:
        text: str = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, enable_thinking=thinking
        )
    except errors as error:
        raise _Refused("bad_request", f"its chat template refuses this: {error}") from error
    return text


def _open_model(folder: Path) -> tuple[Any, dict[str, Any]]:
    """A model's tokenizer, and what it and its chat template tell."""
    utils = import_module("mlx_lm.utils")
    config = utils.load_config(folder)
    tokenizer = utils.load_tokenizer(folder, eos_token_ids=config.get("eos_token_id"))
    probe = [{"role": "user", "content": "Hello"}]
    on, off = (_render(tokenizer, probe, thinking=thinking) for thinking in (True, False))
    always = off.rstrip().endswith(_tags(tokenizer)[0])
    return tokenizer, {"can_think": on != off or always, "always_thinks": always}


def _explained(error: BaseException) -> tuple[str, str]:
    """Kind and message of a failure."""
    if isinstance(error, _Refused):
        return error.kind, str(error)
    message = f"{type(error).__name__}: {error}"
    short = isinstance(error, MemoryError) or any(
        words in message.lower() for words in OUT_OF_MEMORY
    )
    return ("out_of_memory" if short else "backend"), message


def main() -> None:
    """Serve one parent until it ends."""
    channel = _Channel()
    tokenizer: Any = None
    model: Any = None
    folder = Path()
    while True:
        request = channel.requests.get()
        try:
            if request["op"] == "open":
                folder = Path(request["folder"])
                tokenizer, facts = _open_model(folder)
                channel.send("opened", **facts)
            elif request["op"] == "load":
                model, _ = import_module("mlx_lm.utils").load_model(folder)
                memory = import_module("mlx.core").get_peak_memory()
                channel.send("loaded", memory_bytes=memory)
            else:
                channel.send("done", **_Answer(model, tokenizer, channel, request).run())
                import_module("mlx.core").clear_cache()
        except _Stopped:
            channel.send("stopped")
        except Exception as error:  # noqa: BLE001 - whatever it is, the parent is told
            kind, message = _explained(error)
            channel.send("error", kind=kind, message=message)


if __name__ == "__main__":
    main()
