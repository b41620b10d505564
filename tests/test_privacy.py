"""The guard, and the two transports that it stands between."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

import soma_bench
from routing_examples import profile_content
from scripted import ScriptedProvider, completion
from servers.base import Recorded, Reply, Server
from soma_bench.environment import read_environment
from soma_bench.errors import PrivacyError, ProviderError
from soma_bench.providers import Backend, create_provider
from soma_bench.providers.base import Provider
from soma_bench.providers.placeholders import Replaced, Restorer
from soma_bench.providers.transports import Cleared, CloudTransport, LocalTransport
from soma_bench.routing.overrides import under
from soma_bench.routing.privacy import Guard, stays
from soma_bench.routing.profile import Profile
from soma_bench.types import Chunk, Message, Request, Target

CLOUD = Target.parse("claude:claude-sonnet-5-5")
REPLACED = Replaced({"[PATIENT_1]": 'Jane "JJ" Doe', "[DATE_1]": "1960-03-04"})


def request(text: str = "A nodule.", **changes: Any) -> Request:
    values = {"model": CLOUD.model, "max_tokens": 50, **changes}
    return Request(messages=(Message("user", text),), **values)


def guard() -> Guard:
    return Guard(Profile.model_validate(profile_content()))


class Cloud(ScriptedProvider):
    name = "claude"
    is_local = False

    def __init__(self, pieces: list[Chunk]) -> None:
        text = "".join(piece.text for piece in pieces)
        super().__init__(lambda _: completion(text))
        self.pieces = pieces

    async def stream(self, request: Request) -> AsyncIterator[Chunk]:
        for piece in self.pieces:
            yield piece
        yield Chunk(completion=await self.complete(request))


@pytest.mark.parametrize("level", ["local_only", None, "", "OPEN", "public", 3, True])
def test_what_is_not_plainly_allowed_does_not_leave(level: Any) -> None:
    with pytest.raises(PrivacyError):
        guard().clear(request(), CLOUD, level)


def test_open_request_leaves_as_it_is() -> None:
    cleared = guard().clear(request(), CLOUD, "open")
    assert cleared.request == request()
    assert cleared.target == CLOUD


def test_local_transport_cannot_hold_a_cloud_provider() -> None:
    with pytest.raises(PrivacyError):
        LocalTransport(Cloud([]))


@pytest.mark.parametrize("is_local", [None, "yes", 1])
def test_provider_of_unknown_place_is_no_local_one(is_local: Any) -> None:
    provider = ScriptedProvider(lambda _: "")
    provider.is_local = is_local
    with pytest.raises(PrivacyError):
        LocalTransport(provider)


@pytest.mark.parametrize(
    "given_",
    [
        request(),
        None,
        Cleared(request=request(), target=CLOUD, level="local_only"),
        Cleared(request=request(), target=Target.parse("openai:gpt-6-luna"), level="open"),
        Cleared(request=request(model="claude-opus-5-5"), target=CLOUD, level="open"),
    ],
)
def test_cloud_transport_sends_nothing_but_what_was_cleared_for_it(given_: Any) -> None:
    cloud = Cloud([])
    transport = CloudTransport(cloud)

    async def stream() -> None:
        async for _ in transport.stream(given_):
            pass

    with pytest.raises(PrivacyError):
        asyncio.run(transport.complete(given_))
    with pytest.raises(PrivacyError):
        asyncio.run(stream())
    assert cloud.requests == []


def test_streamed_answer_gets_its_identifiers_back() -> None:
    pieces = [Chunk(thinking="Is [PAT"), Chunk(thinking="IENT_1"), Chunk(thinking="] ill? [")]
    pieces += [Chunk(text="[PATIENT"), Chunk(text="_1] was born [DATE_"), Chunk(text="1], [DATE")]
    cleared = Cleared(request=request(), target=CLOUD, level="deidentified", replaced=REPLACED)

    async def collect() -> list[Chunk]:
        return [chunk async for chunk in CloudTransport(Cloud(pieces)).stream(cleared)]

    *chunks, last = asyncio.run(collect())
    assert "".join(c.thinking for c in chunks) == 'Is Jane "JJ" Doe ill? ['
    assert "".join(c.text for c in chunks) == 'Jane "JJ" Doe was born 1960-03-04, [DATE'
    assert last.completion is not None
    assert last.completion.text == 'Jane "JJ" Doe was born 1960-03-04, [DATE'


def test_structured_answer_stays_json_with_the_identifiers_in_it() -> None:
    cleared = Cleared(
        request=request(schema={"type": "object"}),
        target=CLOUD,
        level="deidentified",
        replaced=REPLACED,
    )
    restored = cleared.restore(completion('{"name": "[PATIENT_1]"}'))
    assert restored.text == '{"name": "Jane \\"JJ\\" Doe"}'


@pytest.mark.parametrize("text", ["[patient_1]", "[ PATIENT_1 ]", r"[PATIENT\_1]", "[Patient_01]"])
def test_placeholders_are_known_in_the_forms_that_models_make(text: str) -> None:
    assert REPLACED.restore(text) == 'Jane "JJ" Doe'


def test_placeholder_that_nobody_made_stays() -> None:
    assert REPLACED.restore("[PATIENT_2] [MRN_1] [1]") == "[PATIENT_2] [MRN_1] [1]"


def test_cleared_request_shows_no_identifier() -> None:
    cleared = Cleared(request=request("Jane"), target=CLOUD, level="open", replaced=REPLACED)
    assert "Jane" not in repr(cleared)
    assert "Jane" not in str(cleared)


_PARTS = st.sampled_from(
    ["[PATIENT_1]", "[date_1]", "[", "]", "[[", "[PATIENT_", "1", r"[PATIENT\_1 ]", " ", "a", "x_1"]
)


@given(st.lists(_PARTS, max_size=12), st.data())
def test_pieces_restore_to_what_the_whole_restores_to(
    parts: list[str], data: st.DataObject
) -> None:
    text = "".join(parts)
    restorer = Restorer(REPLACED)
    said, rest = "", text
    while rest:
        length = data.draw(st.integers(1, len(rest)))
        said += restorer.take(rest[:length])
        rest = rest[length:]
    assert said + restorer.rest() == REPLACED.restore(text)


class Redirecting(Server):
    """Sends every request elsewhere."""

    def __init__(self, elsewhere: str) -> None:
        super().__init__()
        self._elsewhere = elsewhere

    async def answer(self, request: Recorded, reply: Reply) -> None:
        headers = {"location": f"{self._elsewhere}{request.path}"}
        await reply.body(b"", status=307, headers=headers)


class Recording(Server):
    async def answer(self, request: Recorded, reply: Reply) -> None:
        await reply.json({})


def _providers_at(url: str) -> list[Provider]:
    key = SecretStr("sk-test")
    return [
        create_provider("ollama", Backend(base_url=url)),
        create_provider("claude", Backend(base_url=url, api_key=key)),
        create_provider("openai", Backend(base_url=f"{url}/v1", api_key=key)),
    ]


async def _put(provider: Provider, *, streamed: bool) -> None:
    """Put a question to a provider; what it answers is of no interest here."""
    models = {"ollama": "qwen3:8b", "claude": "claude-sonnet-5-5", "openai": "gpt-6-luna"}
    asked = request("Jane Doe", model=models[provider.name])
    try:
        if streamed:
            async for _ in provider.stream(asked):
                pass
        else:
            await provider.complete(asked)
    finally:
        await provider.close()


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("index", [0, 1, 2])
def test_redirects_lead_nowhere(index: int, streamed: bool) -> None:
    with Recording() as elsewhere, Redirecting(elsewhere.url) as server:
        with pytest.raises(ProviderError):
            asyncio.run(_put(_providers_at(server.url)[index], streamed=streamed))
        assert server.requests
        assert elsewhere.requests == []


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("index", [0, 1, 2])
def test_no_proxy_carries_what_is_for_this_machine(
    monkeypatch: pytest.MonkeyPatch, index: int, streamed: bool
) -> None:
    with Recording() as proxy, Recording() as server:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
            monkeypatch.setenv(name.lower(), proxy.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        with pytest.raises(ProviderError):
            asyncio.run(_put(_providers_at(server.url)[index], streamed=streamed))
        assert server.requests
        assert proxy.requests == []


def test_ollama_is_local_at_a_trusted_host_and_nowhere_else() -> None:
    url = "http://studio.lan:11434"
    assert create_provider("ollama", Backend(base_url=url)).is_local is False
    trusted = Backend(base_url=url, trusted_hosts=frozenset({"studio.lan"}))
    assert create_provider("ollama", trusted).is_local is True


def test_address_from_the_environment_makes_ollama_no_local_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OLLAMA_BASE_URL", "http://studio.lan:11434")
    profile = Profile.model_validate(profile_content())
    target = Target.parse("ollama:qwen2.5:14b")
    assert profile.is_local(target)
    assert not under(profile, read_environment()).is_local(target)
    assert not stays(target, create_provider("ollama"))


def test_only_the_guard_makes_a_cleared_request() -> None:
    """The type says what may leave; this says who may say it."""
    package = Path(soma_bench.__file__).parent
    makers = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if re.search(r"(?<!class )\bCleared\(", path.read_text("utf-8"))
    }
    assert makers == {"routing/privacy.py"}
