"""The words that every room shares: target, request, completion, usage, timings.

Plain frozen dataclasses without behaviour beyond their own text form. Times are in seconds and
end in ``_s``, memory is in bytes, money in US dollars. ``None`` means that nobody said: a backend
that does not report a figure leaves it ``None``, never 0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

AgentName = Literal["alignment", "radiologist", "pathologist", "report_writer", "qc_reviewer"]
AGENTS: tuple[AgentName, ...] = get_args(AgentName)
"""The five agents, in the order in which an analysis runs them."""

ProviderName = Literal["ollama", "mlx", "llamacpp", "claude", "openai"]
PROVIDERS: tuple[ProviderName, ...] = get_args(ProviderName)

LOCAL_PROVIDERS: frozenset[ProviderName] = frozenset({"ollama", "mlx", "llamacpp"})
"""Providers whose models run on a machine of one's own."""

ThinkingLevel = Literal["off", "low", "medium", "high"]
Thinking = ThinkingLevel | int
"""``off``, a level, or a budget of thinking tokens (at least 1)."""

FinishReason = Literal["stop", "length", "refusal"]

PrivacyLevel = Literal["local_only", "deidentified", "open"]
PRIVACY_LEVELS: tuple[PrivacyLevel, ...] = get_args(PrivacyLevel)

_MAX_THINKING_TOKENS = 131_072
_MAX_TARGET_LENGTH = 300
_QUANTIZATION = re.compile(
    r"(?:^|[-_:.])((?:iq|q)\d(?:_[a-z0-9]+)*|f16|bf16|f32|fp16|int[48]|[2-8]-?bit|mxfp[48]|nvfp4)$",
    re.IGNORECASE,
)


def parse_thinking(text: str | int) -> Thinking:
    """Read a thinking setting: ``off``, a level, or a whole number of tokens.

    Raises:
        ValueError: it is none of these; the message says what is allowed.
    """
    levels = get_args(ThinkingLevel)
    if isinstance(text, str) and text in levels:
        return text  # type: ignore[return-value]
    if isinstance(text, bool) or not re.fullmatch(r"[0-9]{1,9}", str(text)):
        raise ValueError(
            f"thinking must be {', '.join(levels)} or a number of tokens, not {text!r}"
        )
    budget = int(text)
    if budget == 0:
        return "off"
    if budget > _MAX_THINKING_TOKENS:
        raise ValueError(
            f"a thinking budget goes up to {_MAX_THINKING_TOKENS} tokens, not {budget}"
        )
    return budget


@dataclass(frozen=True, slots=True, order=True)
class Target:
    """What a request is sent to: provider, model (its quantization in the name) and thinking.

    ``thinking`` is None where the target leaves it to the model's own default.
    """

    provider: ProviderName
    model: str
    thinking: Thinking | None = field(default=None, compare=True)

    @classmethod
    def parse(cls, text: str) -> Target:
        """Read ``provider:model[?thinking=off|low|medium|high|N]``; the first colon ends the provider.

        Raises:
            ValueError: the text is not a target; the message says why.

        >>> Target.parse("ollama:qwen3:32b-q4_K_M?thinking=256")
        Target(provider='ollama', model='qwen3:32b-q4_K_M', thinking=256)
        """
        if len(text) > _MAX_TARGET_LENGTH:
            raise ValueError(f"a target has at most {_MAX_TARGET_LENGTH} characters")
        head, question, query = text.partition("?")
        provider, colon, model = head.partition(":")
        if not colon or not model:
            raise ValueError(f"target {text!r} is not provider:model, e.g. ollama:qwen3:8b-q4_K_M")
        if provider not in PROVIDERS:
            raise ValueError(
                f"unknown provider {provider!r} in {text!r}; known: {', '.join(PROVIDERS)}"
            )
        if not re.fullmatch(r"[^\s?#\x00-\x1f\x7f]+", model):
            raise ValueError(f"target {text!r} has a character that no model's name has")
        thinking: Thinking | None = None
        if question:
            name, equals, value = query.partition("=")
            if name != "thinking" or not equals:
                raise ValueError(f"target {text!r} takes ?thinking=... and nothing else")
            thinking = parse_thinking(value)
        return cls(provider, model, thinking)

    def __str__(self) -> str:
        query = "" if self.thinking is None else f"?thinking={self.thinking}"
        return f"{self.whole_model}{query}"

    @property
    def whole_model(self) -> str:
        """``provider:model``: the target without its thinking setting."""
        return f"{self.provider}:{self.model}"

    @property
    def quantization(self) -> str | None:
        """The quantization that the model's name ends in, such as ``q4_K_M``; None if it names none."""
        found = _QUANTIZATION.search(self.model)
        return found.group(1) if found else None

    @property
    def is_local(self) -> bool:
        """Whether the provider runs models on one's own machine."""
        return self.provider in LOCAL_PROVIDERS


@dataclass(frozen=True, slots=True)
class Image:
    """A picture that goes with a message: encoded bytes and their media type."""

    data: bytes = field(repr=False)
    media_type: Literal["image/png", "image/jpeg"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str
    images: tuple[Image, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Generation settings that hold for a whole sweep or profile."""

    temperature: float = 0.0
    """0 is greedy decoding."""
    top_p: float | None = None
    seed: int | None = 0
    context_tokens: int = 2048
    """Length of the context window that the backend is asked to hold (prompt and answer)."""
    cache_prompt: bool = False
    """Whether the backend may reuse a shared prompt prefix. Faster, but greedy text is then not
    guaranteed to be identical from run to run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long a call may take, in seconds; each limit counts by itself.

    They decide when to give up and never what is answered, so they are no part of a trial's key.
    """

    connect_s: float = 5.0
    """Until the backend has taken the connection."""
    first_token_s: float = 120.0
    """From the call to its first token, thinking or not; holds for streams."""
    between_tokens_s: float = 60.0
    """From one token to the next; holds for streams."""
    total_s: float = 300.0
    """From the call to the last token."""
    load_s: float = 300.0
    """Added to the first token's limit and to the total where the model has to be loaded first:
    a cold start is no fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One call, as an agent words it, before any backend's own form."""

    model: str
    messages: tuple[Message, ...]
    max_tokens: int
    """Tokens that the answer may have; thinking tokens come on top of it."""
    thinking: Thinking | None = None
    schema: Mapping[str, Any] | None = None
    """JSON Schema that the answer must follow; None for free text."""
    options: Options = Options()
    limits: Limits | None = None
    """When to give up; None leaves it to the provider's own limits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens as the backend counts them."""

    prompt_tokens: int | None = None
    """All tokens of the prompt, those from a cache included."""
    cached_tokens: int | None = None
    """Prompt tokens that came from a cache and were not computed."""
    cache_write_tokens: int | None = None
    """Prompt tokens that were put into a cache, which some vendors charge for."""
    output_tokens: int | None = None
    """All tokens generated, thinking included."""
    thinking_tokens: int | None = None
    """Tokens spent thinking, as part of ``output_tokens``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """Where the time of one call went, in seconds."""

    queue_s: float | None = None
    load_s: float | None = None
    """Loading the model for this call; 0 when it was loaded already. Not part of ``total_s``."""
    first_token_s: float | None = None
    """From the call to the first generated token, thinking or not (TTFT)."""
    first_answer_token_s: float | None = None
    """From the call to the first token that is not thinking (TTFOT)."""
    prefill_s: float | None = None
    decode_s: float | None = None
    total_s: float
    """From the call to the last token, by the client's clock, without loading the model."""

    def inter_token_s(self, output_tokens: int | None) -> float | None:
        """Mean time from one token to the next (ITL): (last - first) / (n - 1)."""
        if self.first_token_s is None or output_tokens is None or output_tokens < 2:
            return None
        return (self.total_s - self.first_token_s) / (output_tokens - 1)

    def per_token_s(self, output_tokens: int | None) -> float | None:
        """Mean time for a token, the wait for the first included (TPOT): (last - start) / n."""
        return self.total_s / output_tokens if output_tokens else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """A whole answer. An answer that was cut off is an error, never a Completion."""

    text: str
    thinking: str = ""
    finish: FinishReason
    usage: Usage
    timings: Timings
    structured_by: Literal["schema", "prompt"] | None = None
    """How a structured answer was obtained; None where none was asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A piece of a streamed answer; the last one carries the whole completion and no text."""

    text: str = ""
    thinking: str = ""
    completion: Completion | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelIdentity:
    """What a model is, beyond its name: the part of a trial's key that the backend knows."""

    weights_digest: str | None
    """``sha256:...`` of the weights; None where the vendor does not publish one."""
    chat_template: str | None
    """Name of the chat template in use, where it is not the model's own."""
    engine: str
    """Library or server that runs the model, with its version."""
    synthetic: bool = False
    """Whether these weights are a derivative made for tests, whose figures say nothing about a
    model anyone would deploy."""
    weights_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try of a target on behalf of an agent."""

    target: Target
    outcome: str
    """``answered``, the kind of the `ProviderError`, or ``answer`` (it cannot be read), ``refused``
    (by the model's safety policy), ``privacy`` (it was not sent), ``config`` (the target cannot
    honour what is asked). Of a target that was not asked: ``resting`` (it failed too often),
    ``disabled``, ``length`` or ``images`` (the case is not for it)."""
    seconds: float
    message: str = ""
    """Why it gave no answer; empty where it did."""
