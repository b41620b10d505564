"""A routing profile: which target each agent uses, with which fallback, and the proof for it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator

from soma_bench.agents.base import Strict
from soma_bench.errors import ConfigError
from soma_bench.files import (
    canonical_json,
    digest,
    first_problem,
    read_json,
    write_atomically,
)
from soma_bench.providers.places import is_cloud_tag, is_own
from soma_bench.routing.backends import Host, ModelName, Providers
from soma_bench.routing.complexity import Scale
from soma_bench.routing.constraints import Constraints, Objective, Pipeline
from soma_bench.routing.decision import Order
from soma_bench.routing.evidence import Evidence
from soma_bench.types import AGENTS, AgentName, PrivacyLevel, ProviderName, Target

if TYPE_CHECKING:
    from soma_bench.routing.signing import PublicKey

SCHEMA_VERSION = 1
_SIGNED_AS = b"soma-bench routing profile, schema version 1\n"
"""Opens what is signed, so that no signature of something else can stand for a profile's."""


def _known_version(value: int) -> int:
    if value != SCHEMA_VERSION:
        raise ValueError(f"{value} is not known; this release reads {SCHEMA_VERSION}")
    return value


def _iso_date(value: str) -> str:
    datetime.fromisoformat(value)
    return value


def _moment(value: str) -> str:
    if len(value) < 20 or datetime.fromisoformat(value).utcoffset() is None:
        raise ValueError(f"{value!r} is not a time with its zone, e.g. 2026-12-31T00:00:00+00:00")
    return value


def _by_key(value: dict[str, Any]) -> dict[str, Any]:
    """Equal profiles have equal bytes, in whatever order their keys were given."""
    return dict(sorted(value.items()))


Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,79}$")]
Line = Annotated[str, Field(max_length=500, pattern=r"^[^\x00-\x1f\x7f]*$")]
Label = Annotated[str, Field(min_length=1, max_length=300, pattern=r"^[^\x00-\x1f\x7f]*$")]
Alias = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,39}$")]
Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
Whole = Annotated[int, Field(ge=-(1 << 53), le=1 << 53)]
Figure = Annotated[float, Field(allow_inf_nan=False)]
Aliases = Annotated[dict[Alias, ModelName], Field(max_length=200), AfterValidator(_by_key)]
Digests = Annotated[dict[Label, Digest | None], Field(max_length=2000), AfterValidator(_by_key)]
Facts = Annotated[
    dict[Label, Line | bool | Whole | Figure | None], Field(max_length=500), AfterValidator(_by_key)
]


class AgentRouting(Strict):
    """One agent's targets, as written: ``provider:model`` or ``provider:alias``."""

    primary: Annotated[str, Field(min_length=1, max_length=300)]
    fallback: Annotated[str, Field(min_length=1, max_length=300)] | None
    privacy: PrivacyLevel
    reason: Line
    order: Annotated[Order, Field(exclude_if=lambda order: order == "explicit")] = "explicit"
    """``rules`` lets `soma_bench.routing.decision` choose which of the two is asked first. The ES
    module, which does not see the case, asks the primary first in any event."""


class Signature(Strict):
    """Whose word it is that a profile is as it was written."""

    algorithm: Literal["ed25519"] = "ed25519"
    key: Digest
    """Digest of the public key that it is to be checked with."""
    value: Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]


class Provenance(Strict):
    """Where the figures come from."""

    run_ids: Annotated[tuple[Label, ...], Field(strict=False, max_length=1000)] = ()
    suite_digests: Digests = Field(default_factory=dict)
    """By suite (or agent)."""
    model_digests: Digests = Field(default_factory=dict)
    """By target or model; None where the vendor publishes no weights."""
    prompt_digests: Digests = Field(default_factory=dict)
    """By agent."""
    hardware: Facts = Field(default_factory=dict)
    library_versions: Facts = Field(default_factory=dict)
    date: Annotated[str, Field(max_length=40), AfterValidator(_iso_date)] | None = None
    """ISO 8601; when the run was measured, not when the file was written."""
    digest: Digest | None = None
    """Over the canonical JSON of everything else in the profile but a signature; `save_profile`
    sets it."""


class Profile(Strict):
    """A whole routing profile, schema version 1. What cannot be right is refused on construction."""

    schema_version: Annotated[int, AfterValidator(_known_version)]
    name: Name
    providers: Providers
    trusted_hosts: Annotated[tuple[Host, ...], Field(strict=False, max_length=100)] = ()
    """Hosts of one's own whose Ollama counts as local; loopback always does."""
    images_may_leave: Annotated[bool, Field(exclude_if=lambda may: not may)] = False
    """Whether images go to a cloud under ``deidentified``. Their headers never do, but what stands in
    their pixels, such as a name burned in, is neither found nor removed."""
    nlp_model: Annotated[ModelName | None, Field(exclude_if=lambda model: model is None)] = None
    """An installed spaCy model, which finds names that the case does not know under
    ``deidentified``; patterns alone by default."""
    models: Annotated[dict[ProviderName, Aliases], AfterValidator(_by_key)] = Field(
        default_factory=dict
    )
    """Aliases: ``ollama:vision`` in a route means the model under ``models.ollama.vision``."""
    routing: dict[AgentName, AgentRouting]
    auto_fallback: bool = True
    """Whether a failed or slow primary is followed by its fallback without asking."""
    latency_threshold_ms: Annotated[int, Field(ge=1, le=3_600_000)] = 30_000
    """How long a local stage may take before its fallback is used."""
    pipeline: Pipeline = "sequential"
    complexity: Annotated[Scale, Field(exclude_if=lambda scale: scale == Scale())] = Scale()
    """How the complexity of a case is computed."""
    objective: Objective = "quality_latency_cost"
    constraints: Constraints = Constraints()
    evidence: Annotated[tuple[Evidence, ...], Field(strict=False, max_length=20_000)] = ()
    synthetic_evidence: bool = False
    """Must be true when any evidence comes from synthetic weights; such a profile is for tests."""
    provenance: Provenance = Provenance()
    valid_until: Annotated[
        Annotated[str, Field(max_length=40), AfterValidator(_moment)] | None,
        Field(exclude_if=lambda moment: moment is None),
    ] = None
    """ISO 8601 with its zone; from then on a signed profile is refused where signatures are asked
    for."""
    signature: Annotated[
        Signature | None, Field(exclude_if=lambda signature: signature is None)
    ] = None
    """Over everything else, digest and expiry included; `soma_bench.routing.signing` makes it."""

    @field_validator("routing")
    @classmethod
    def _has_all_agents(cls, value: dict[AgentName, AgentRouting]) -> dict[AgentName, AgentRouting]:
        missing = [agent for agent in AGENTS if agent not in value]
        if missing:
            raise ValueError(f"no route for {', '.join(missing)}")
        return {agent: value[agent] for agent in AGENTS}

    @model_validator(mode="after")
    def _is_consistent(self) -> Profile:
        for provider, aliases in self.models.items():
            for alias, model in aliases.items():
                if model in aliases:
                    raise ValueError(
                        f"models.{provider}.{alias}: {model!r} is an alias itself; name the model"
                    )
        for agent in AGENTS:
            self._check_route(agent)
        seen: set[tuple[str, str]] = set()
        for index, row in enumerate(self.evidence):
            if (row.agent, row.target) in seen:
                raise ValueError(
                    f"evidence[{index}].target: {row.target} stands twice for {row.agent}"
                )
            seen.add((row.agent, row.target))
            if row.synthetic and not self.synthetic_evidence:
                raise ValueError(
                    f"evidence[{index}].synthetic: synthetic weights prove nothing about a model"
                    " anyone would deploy; set synthetic_evidence to true to use them for a test"
                )
        return self

    def _check_route(self, agent: AgentName) -> None:
        route = self.routing[agent]
        targets: list[Target] = []
        for role, text in (("primary", route.primary), ("fallback", route.fallback)):
            if text is None:
                continue
            where = f"routing.{agent}.{role}"
            try:
                target = self.target(text)
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from error
            if not self.providers.enabled(target.provider):
                raise ValueError(
                    f"{where}: {text!r} needs provider {target.provider}, which is disabled;"
                    f" set providers.{target.provider}.enabled or choose another target"
                )
            if route.privacy == "local_only" and not self.is_local(target):
                here = target.is_local and not is_cloud_tag(target.model)
                trust = ", or name its host in trusted_hosts" if here else ""
                raise ValueError(
                    f"{where}: {text!r} leaves this machine, and {agent} is local_only;"
                    f" choose a local target{trust}"
                )
            targets.append(target)
        if len(targets) == 2 and targets[0] == targets[1]:
            raise ValueError(f"routing.{agent}.fallback: is the primary itself ({targets[0]})")

    def target(self, text: str) -> Target:
        """The target that ``text`` means, an alias of ``models`` replaced by its model.

        Raises:
            ValueError: the text is not a target.
        """
        target = Target.parse(text)
        model = self.models.get(target.provider, {}).get(target.model, target.model)
        return Target(target.provider, model, target.thinking)

    def is_local(self, target: Target) -> bool:
        """Whether a request to ``target`` stays on machines of one's own."""
        if target.provider != "ollama":
            return target.is_local
        if is_cloud_tag(target.model):
            return False
        return is_own(self.providers.ollama.base_url, frozenset(self.trusted_hosts))

    @property
    def deidentifies(self) -> bool:
        """Whether some agent's requests go to a cloud with placeholders."""
        return any(route.privacy == "deidentified" for route in self.routing.values())

    def sealed(self) -> Profile:
        """The same profile with its digest set."""
        provenance = self.provenance.model_copy(update={"digest": profile_digest(self)})
        return self.model_copy(update={"provenance": provenance})


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One agent's route with its aliases resolved."""

    agent: AgentName
    primary: Target
    fallback: Target | None
    privacy: PrivacyLevel
    reason: str


def resolve(profile: Profile, agent: AgentName) -> Route:
    """The route of ``agent``, ready to call."""
    route = profile.routing[agent]
    return Route(
        agent=agent,
        primary=profile.target(route.primary),
        fallback=None if route.fallback is None else profile.target(route.fallback),
        privacy=route.privacy,
        reason=route.reason,
    )


def profile_digest(profile: Profile) -> str:
    """Digest over the canonical JSON of everything but the digest itself."""
    content: dict[str, Any] = profile.model_dump(mode="json", exclude={"signature"})
    del content["provenance"]["digest"]
    return digest(content)


def signed_bytes(profile: Profile) -> bytes:
    """What a profile's signature is over: the canonical JSON of everything but the signature."""
    content = profile.model_dump(mode="json", exclude={"signature"})
    return _SIGNED_AS + canonical_json(content).encode()


def load_profile(
    path: Path | str, verify: PublicKey | Path | str | None = None, *, now: datetime | None = None
) -> Profile:
    """Read a profile and check all of it.

    A file that carries evidence must carry the digest that `save_profile` wrote; any other file
    may leave it out, as a hand-written profile does. A digest finds out what was changed by
    mistake; against intent it takes a signature.

    Args:
        path: the file.
        verify: whose signature it must bear, as a key or the file of one; a profile that is
            unsigned, signed by another, altered or expired is refused. None asks for none.
        now: the time that an expiry is compared with; the clock's by default.

    Raises:
        ConfigError: the file cannot be read, is not a profile, was changed after it was written, or
            does not bear a valid signature where one is asked for; one line ``file: field.path:
            what``.
    """
    path = Path(path)
    if isinstance(verify, Path | str):
        from soma_bench.routing.signing import read_public_key

        verify = read_public_key(Path(verify))
    content = read_json(path)
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: is not a profile: a JSON object is expected")
    try:
        profile = Profile.model_validate(content)
    except ValidationError as error:
        # Checks across fields name their place themselves; pydantic knows only "the whole".
        problem = first_problem(error).removeprefix("the whole: ")
        raise ConfigError(f"{path}: {problem}") from error
    try:
        # An escape may hold half of a character, which no digest, signature or file can.
        canonical_json(content).encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"{path}: holds an escape that is half of a character") from error
    stored = profile.provenance.digest
    if stored is None and profile.evidence:
        raise ConfigError(
            f"{path}: provenance.digest: is missing, so nothing vouches for the evidence;"
            " write the file by soma-bench optimize, or leave the evidence out"
        )
    if stored is not None and stored != profile_digest(profile):
        raise ConfigError(
            f"{path}: provenance.digest: does not match: the profile was changed after it was"
            " written; make it again by soma-bench optimize, or remove evidence and digest to"
            " route by hand"
        )
    if verify is not None:
        _check_signature(profile, path, verify, now or datetime.now(UTC))
    return profile


def _check_signature(profile: Profile, path: Path, key: PublicKey, now: datetime) -> None:
    signature = profile.signature
    if signature is None:
        raise ConfigError(f"{path}: signature: is missing; write it by soma-bench profile sign")
    if signature.key != key.id:
        raise ConfigError(
            f"{path}: signature.key: was signed with another key ({signature.key[:19]}...), not"
            f" with {key.id[:19]}..."
        )
    if not key.has_signed(signed_bytes(profile), bytes.fromhex(signature.value)):
        raise ConfigError(
            f"{path}: signature.value: does not match: the profile was changed after it was signed"
        )
    if profile.valid_until is None:
        raise ConfigError(f"{path}: valid_until: is missing; a signed profile must end")
    if now >= datetime.fromisoformat(profile.valid_until):
        raise ConfigError(
            f"{path}: valid_until: expired at {profile.valid_until}; measure again and sign anew"
        )


def save_profile(profile: Profile, path: Path) -> bool:
    """Write a profile with its digest; True if the file's bytes changed.

    Raises:
        ConfigError: the file cannot be written, or is there and holds something else than a
            profile; nothing was changed.
    """
    if path.is_file() and not _holds_a_profile(path):
        raise ConfigError(f"{path}: is there and is not a profile; name another file")
    return write_atomically(path, profile_text(profile.sealed()))


def _holds_a_profile(path: Path) -> bool:
    """Whether a file is a profile of whatever version, valid or not."""
    try:
        content = read_json(path)
    except ConfigError:
        return False
    return isinstance(content, dict) and "schema_version" in content


def profile_schema() -> dict[str, Any]:
    """JSON Schema of a profile's file. `load_profile` checks more: what fields say together."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Profile.model_json_schema(),
        "title": "A routing profile, schema version 1",
    }


def profile_text(profile: Profile) -> str:
    """A profile's JSON as files hold it; the same profile always gives the same text."""
    return profile.model_dump_json(indent=2) + "\n"
