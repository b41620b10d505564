"""The shape of the object that an exported module gives to Node; published as a JSON Schema."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from soma_bench.agents.base import Strict
from soma_bench.types import PrivacyLevel, ProviderName, Thinking

Milliseconds = Annotated[int, Field(ge=1)]


class _Shape(Strict):
    model_config = ConfigDict(alias_generator=to_camel)


class OllamaOptionsShape(Strict):
    """As Ollama's own API names them."""

    temperature: float
    top_p: float | None = None
    seed: int | None = None
    num_ctx: int


class OllamaShape(_Shape):
    """The Ollama server."""

    enabled: bool
    base_url: str
    model: str | None
    """Asked for where only the provider is named."""
    models: dict[str, str]
    """By alias: ``fast``, ``balanced``, ``vision`` and whatever the profile adds."""
    timeout: Milliseconds
    options: OllamaOptionsShape


class CloudShape(_Shape):
    """A cloud; its key is in the environment."""

    enabled: bool
    model: str
    timeout: Milliseconds


class EmbeddedShape(_Shape):
    """A provider of soma_bench's own, which a Node backend does not have."""

    enabled: bool
    model: str | None


class ProvidersShape(_Shape):
    """The providers by their names."""

    ollama: OllamaShape
    claude: CloudShape
    openai: CloudShape
    llamacpp: EmbeddedShape
    mlx: EmbeddedShape


class RouteShape(_Shape):
    """One agent's route; `getAgentConfig` gives the same."""

    primary: ProviderName
    fallback: ProviderName | None
    model: str
    """The primary's."""
    reason: str
    privacy: PrivacyLevel
    thinking: Thinking | None
    """The primary's; null leaves it to the model."""
    target: str
    """The primary in one piece of text, as the profile writes it."""
    fallback_model: str | None
    fallback_thinking: Thinking | None
    fallback_target: str | None


class RoutingShape(_Shape):
    """The routes by agent."""

    alignment: RouteShape
    radiologist: RouteShape
    pathologist: RouteShape
    report_writer: RouteShape
    qc_reviewer: RouteShape


class FallbackShape(_Shape):
    """What the backend does between two targets."""

    enabled: bool
    max_retries: int
    retry_delay: Milliseconds


class PerformanceShape(_Shape):
    """Latencies from which a call is too slow."""

    local_latency_threshold: Milliseconds
    cloud_latency_threshold: Milliseconds


class LoggingShape(_Shape):
    """What the backend logs."""

    enabled: bool
    level: Literal["debug", "info", "warn", "error"]
    include_timings: bool


class ConfigShape(_Shape):
    """``LLMConfig``: times in milliseconds; its two functions are not part of the schema."""

    providers: ProvidersShape
    routing: RoutingShape
    fallback: FallbackShape
    performance: PerformanceShape
    logging: LoggingShape
    auto_fallback: bool
    latency_threshold: Milliseconds


def config_schema() -> dict[str, Any]:
    """JSON Schema of the object that an exported module gives to Node."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **ConfigShape.model_json_schema(by_alias=True),
        "title": "LLMConfig: what an exported module gives to Node",
    }
