"""Everything that can go wrong, as one tree.

SomaError
├── ConfigError          wrong use or bad input: a file, a flag, a setting
├── AnswerError          a model's answer does not say what its agent must say
│   ├── RefusalError     a model's safety policy refuses: an answer, and never routed around
│   └── NoAnswerError    every target that may be asked was, and none gave a usable answer
├── SessionError         a session cannot go from the state it is in to the one that was asked for
├── PrivacyError         a request was about to go where its privacy level forbids
└── ProviderError        a backend failed; ``kind`` says how, ``retryable`` whether another try may help

Every message is one sentence that says what is wrong, where, and what to do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from soma_bench.types import Attempt

ProviderFailure = Literal[
    "not_running",  # nothing answers at the address
    "model_missing",  # no model of exactly this name
    "out_of_memory",  # the model cannot be loaded, or its context does not fit
    "bad_request",  # the backend refuses the input
    "context_too_long",  # prompt and answer need more than the context window
    "rate_limited",  # too many requests or tokens; ``wait_s`` where the backend says how long
    "overloaded",  # the backend is busy
    "timeout",  # one of the four limits was passed; ``limit`` says which
    "cut_off",  # the connection broke in the middle of an answer
    "ended_early",  # an answer ended in good order, but without its last part
    "malformed",  # what came back cannot be read
    "bad_key",  # the key is missing, wrong or not allowed to do this
    "backend",  # any other failure on the backend's side
]

TimeLimit = Literal["connect", "first_token", "between_tokens", "total"]

_RETRYABLE: frozenset[ProviderFailure] = frozenset(
    {
        "not_running",
        "rate_limited",
        "overloaded",
        "timeout",
        "cut_off",
        "ended_early",
        "malformed",
        "backend",
    }
)


class SomaError(Exception):
    """Base of every error that soma_bench raises on purpose."""


class ConfigError(SomaError):
    """Wrong use or bad input; the command line ends with exit code 2."""


class AnswerError(SomaError):
    """A model's answer cannot be read as its agent's output (not JSON, cut short, empty, refused)."""


class RefusalError(AnswerError):
    """A model refuses by its safety policy; another model is not asked in its place."""


class NoAnswerError(AnswerError):
    """No target gave a usable answer.

    Args:
        message: what was asked, and of each target that was tried why it gave no answer.
        attempts: the same as data, in the order of the attempts.
    """

    def __init__(self, message: str, attempts: tuple[Attempt, ...]) -> None:
        super().__init__(message)
        self.attempts = attempts


class PrivacyError(SomaError):
    """The privacy level forbids what was about to happen."""


class SessionError(SomaError):
    """A session is not in a state in which this can be done, or has changed meanwhile."""


class ProviderError(SomaError):
    """A backend failed.

    Args:
        provider: the provider's name; it opens the message.
        message: what happened and what to do.
        kind: the class of the failure.
        wait_s: how long the backend asked to wait, where it said so.
        limit: which limit a ``timeout`` passed.
    """

    def __init__(
        self,
        provider: str,
        message: str,
        *,
        kind: ProviderFailure,
        wait_s: float | None = None,
        limit: TimeLimit | None = None,
    ) -> None:
        super().__init__(f"{provider}: {message}")
        self.provider = provider
        self.kind: ProviderFailure = kind
        self.wait_s = wait_s
        self.limit: TimeLimit | None = limit

    def __reduce__(self) -> tuple[Callable[..., ProviderError], tuple[object, ...]]:
        # An exception is pickled by its positional arguments alone, unless it says otherwise.
        message = str(self).removeprefix(f"{self.provider}: ")
        return _provider_error, (self.provider, message, self.kind, self.wait_s, self.limit)

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later or elsewhere."""
        return self.kind in _RETRYABLE


def _provider_error(
    provider: str,
    message: str,
    kind: ProviderFailure,
    wait_s: float | None,
    limit: TimeLimit | None,
) -> ProviderError:
    return ProviderError(provider, message, kind=kind, wait_s=wait_s, limit=limit)
