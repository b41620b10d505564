"""What a profile says of each provider's backend: whether it may be used, where it is, its defaults."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from soma_bench.agents.base import Strict
from soma_bench.types import ProviderName, Target

_URL = re.compile(r"https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(:[0-9]{1,5})?(/[\w./~-]*)?")


def _model_name(value: str) -> str:
    target = Target.parse(f"llamacpp:{value}")
    if target.model != value:
        raise ValueError(f"{value!r} is not a model's name")
    return value


def _base_url(value: str) -> str:
    """A plain URL only: user names, queries and odd characters hide secrets or other hosts."""
    if not _URL.fullmatch(value) or not urlsplit(value).hostname or (urlsplit(value).port == 0):
        raise ValueError("is not a plain http:// or https:// URL, e.g. http://localhost:11434")
    return value


ModelName = Annotated[str, Field(max_length=260), AfterValidator(_model_name)]
BaseUrl = Annotated[str, Field(max_length=300), AfterValidator(_base_url)]
Host = Annotated[str, Field(pattern=r"^[a-z0-9](?:[a-z0-9.:-]{0,251}[a-z0-9])?$")]
TimeoutSeconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]


class OllamaOptions(Strict):
    """Generation settings sent with every Ollama request."""

    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] = 0.0
    top_p: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = None
    seed: Annotated[int, Field(ge=0, lt=1 << 32)] | None = None
    context_tokens: Annotated[int, Field(ge=256, le=1 << 21)] = 4096
    """Ollama's ``num_ctx``."""


class OllamaSettings(Strict):
    """The Ollama server."""

    enabled: bool = False
    base_url: BaseUrl = "http://localhost:11434"
    timeout_s: TimeoutSeconds = 180.0
    model: ModelName | None = None
    """Used where ``LLM_PRIMARY_PROVIDER`` or ``LLM_FALLBACK_PROVIDER`` sends an agent here."""
    options: OllamaOptions = OllamaOptions()


class ClaudeSettings(Strict):
    """Anthropic's cloud; the key comes from the environment, never from a profile."""

    enabled: bool = False
    model: ModelName = "claude-sonnet-5-5"
    timeout_s: TimeoutSeconds = 120.0


class OpenAISettings(Strict):
    """OpenAI's cloud; the key comes from the environment, never from a profile."""

    enabled: bool = False
    model: ModelName = "gpt-6-luna"
    timeout_s: TimeoutSeconds = 60.0


class EmbeddedSettings(Strict):
    """A provider that runs inside this process."""

    enabled: bool = False
    model: ModelName | None = None


class Providers(Strict):
    """Which providers may be used, and their settings."""

    ollama: OllamaSettings = OllamaSettings()
    claude: ClaudeSettings = ClaudeSettings()
    openai: OpenAISettings = OpenAISettings()
    llamacpp: EmbeddedSettings = EmbeddedSettings()
    mlx: EmbeddedSettings = EmbeddedSettings()

    def enabled(self, provider: ProviderName) -> bool:
        """Whether targets of ``provider`` may be used."""
        return bool(getattr(self, provider).enabled)
