"""What the environment, or a ``.env`` file in the working folder, says about backends.

Order everywhere: call argument > environment > ``.env`` > profile > default. A variable that is set
but empty counts as not set. Keys are held so that neither ``repr`` nor an error shows them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from soma_bench.errors import ConfigError
from soma_bench.types import ProviderName


def _plain_url(value: str) -> str:
    from urllib.parse import urlsplit

    parts = urlsplit(value)
    hidden = parts.username or parts.password or parts.query or parts.fragment
    if parts.scheme not in ("http", "https") or not parts.hostname or hidden:
        raise ValueError("must be a plain http:// or https:// URL")
    return value.rstrip("/")


def _model_name(value: str) -> str:
    if any(c.isspace() or not c.isprintable() or c in "?#" for c in value):
        raise ValueError("is not a model's name")
    return value


_Url = Annotated[str, Field(max_length=300), AfterValidator(_plain_url)]
_Model = Annotated[str, Field(max_length=260), AfterValidator(_model_name)]


class Environment(BaseSettings):
    """The variables that soma_bench reads, as typed values; None is not set."""

    model_config = SettingsConfigDict(
        env_file=".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        case_sensitive=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    primary_provider: Annotated[ProviderName | None, Field(alias="LLM_PRIMARY_PROVIDER")] = None
    """Moves every agent to this provider; ``claude`` is the rollback switch."""
    fallback_provider: Annotated[ProviderName | None, Field(alias="LLM_FALLBACK_PROVIDER")] = None
    ollama_base_url: Annotated[_Url | None, Field(alias="OLLAMA_BASE_URL")] = None
    ollama_model: Annotated[_Model | None, Field(alias="OLLAMA_MODEL")] = None
    ollama_model_fast: Annotated[_Model | None, Field(alias="OLLAMA_MODEL_FAST")] = None
    ollama_model_balanced: Annotated[_Model | None, Field(alias="OLLAMA_MODEL_BALANCED")] = None
    ollama_model_vision: Annotated[_Model | None, Field(alias="OLLAMA_MODEL_VISION")] = None
    claude_base_url: Annotated[_Url | None, Field(alias="ANTHROPIC_BASE_URL")] = None
    claude_model: Annotated[_Model | None, Field(alias="CLAUDE_MODEL")] = None
    claude_key: Annotated[SecretStr | None, Field(alias="ANTHROPIC_API_KEY")] = None
    openai_base_url: Annotated[_Url | None, Field(alias="OPENAI_BASE_URL")] = None
    openai_model: Annotated[_Model | None, Field(alias="OPENAI_MODEL")] = None
    openai_key: Annotated[SecretStr | None, Field(alias="OPENAI_API_KEY")] = None
    auto_fallback: Annotated[bool | None, Field(alias="AUTO_FALLBACK")] = None
    latency_threshold_ms: Annotated[
        int | None, Field(alias="LATENCY_THRESHOLD_MS", ge=1, le=3_600_000)
    ] = None
    local_watts: Annotated[
        float | None, Field(alias="SOMA_BENCH_WATTS", gt=0, le=100_000, allow_inf_nan=False)
    ] = None
    """Power that this machine draws while a local model works, in watts."""
    usd_per_kwh: Annotated[
        float | None, Field(alias="SOMA_BENCH_USD_PER_KWH", ge=0, le=100, allow_inf_nan=False)
    ] = None
    """Price of electricity, in US dollars a kilowatt-hour."""
    prices_file: Annotated[
        str | None, Field(alias="SOMA_BENCH_PRICES", min_length=1, max_length=4096)
    ] = None
    """File of prices that win over the price list's; its form is in `soma_bench.providers.prices`."""

    def ollama_alias(self, name: str) -> str | None:
        """The model that the environment puts behind ``ollama:fast``, ``balanced`` or ``vision``."""
        sizes: dict[str, str | None] = {
            "fast": self.ollama_model_fast,
            "balanced": self.ollama_model_balanced,
            "vision": self.ollama_model_vision,
        }
        return sizes.get(name)


def read_environment(env_file: Path | Literal[".env"] | None = ".env") -> Environment:
    """The environment as it is now.

    Args:
        env_file: file of further variables, which need not exist; None for no file.

    Raises:
        ConfigError: a variable has a value that it cannot have; the message names the variable and
            never shows its value.
    """
    try:
        return Environment(_env_file=env_file)
    except ValidationError as error:
        finding = error.errors(include_url=False, include_input=False)[0]
        variable = finding["loc"][0] if finding["loc"] else "the environment"
        message = finding["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{variable}: {message[:1].lower()}{message[1:]}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{env_file}: is not UTF-8 text (byte {error.start})") from error
