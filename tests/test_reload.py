"""A router in production: it follows its profile's file, and keeps what works when that is not valid."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from routers import ANSWER, QUESTION, TEXT, profile
from scripted import ScriptedProvider
from soma_bench import Router, load_profile
from soma_bench.environment import read_environment
from soma_bench.errors import ConfigError, NoAnswerError, ProviderError
from soma_bench.files import write_atomically
from soma_bench.providers.base import Provider
from soma_bench.routing.breaker import Breaker
from soma_bench.routing.live import LiveRouter
from soma_bench.routing.profile import Profile, profile_digest, profile_text, save_profile
from soma_bench.routing.signing import make_keys, read_private_key, sign_profile
from soma_bench.types import Completion, ProviderName, Request

FIRST, SECOND = "llamacpp:first", "llamacpp:second"


class Backends:
    """Makes scripted providers, and remembers them."""

    def __init__(self, script: Callable[[Request], str] = lambda _: TEXT) -> None:
        self.script = script
        self.made: list[ScriptedProvider] = []

    def __call__(self, profile: Profile, environment: Any) -> Callable[[ProviderName], Provider]:
        def make(name: ProviderName) -> Provider:
            provider = ScriptedProvider(self.script)
            provider.name, provider.is_local = name, name not in ("claude", "openai")
            self.made.append(provider)
            return provider

        return make

    @property
    def models(self) -> list[str]:
        return [request.model for provider in self.made for request in provider.requests]


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "profile.json"
    save_profile(profile(FIRST, None), file)
    return file


def live(path: Path, backends: Backends, **changes: Any) -> LiveRouter:
    bare = read_environment(None)
    return Router.from_profile(
        path, **{"watch": True, "factory": backends, "environment": bare, "retry_s": 0, **changes}
    )


async def ask(router: LiveRouter) -> Any:
    return await router.ask("alignment", QUESTION)


def test_a_changed_file_is_followed_from_the_next_call_on(path: Path) -> None:
    async def run() -> None:
        backends = Backends()
        async with live(path, backends) as router:
            assert (await ask(router)).output == ANSWER
            before = router.health_summary()
            save_profile(profile(SECOND, None), path)
            assert str((await ask(router)).target) == SECOND
            after = router.health_summary()
            assert backends.models == ["first", "second"]
            assert before.digest != after.digest == profile_digest(profile(SECOND, None))
            assert [target.target for target in after.targets] == [SECOND]
            assert after.reload_error is None

    asyncio.run(run())


def test_without_watch_the_file_is_read_once(path: Path) -> None:
    async def run() -> None:
        async with live(path, Backends(), watch=False) as router:
            save_profile(profile(SECOND, None), path)
            assert str((await ask(router)).target) == FIRST

    asyncio.run(run())


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda path: write_atomically(path, "{"), "is not JSON"),
        (lambda path: path.write_text(path.read_text()[:-40]), "is not JSON"),
        (lambda path: write_atomically(path, '{"schema_version": 2}'), "schema_version"),
        (lambda path: path.unlink(), "cannot be read"),
    ],
    ids=["no JSON", "half written", "no profile", "deleted"],
)
def test_an_invalid_file_leaves_the_profile_before_and_is_told_once(
    path: Path, spoil: Callable[[Path], Any], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        async with live(path, Backends()) as router:
            await ask(router)
            spoil(path)
            with caplog.at_level(logging.WARNING, logger="soma_bench.routing.live"):
                for _ in range(3):
                    assert str((await ask(router)).target) == FIRST
            summary = router.health_summary()
            assert why in str(summary.reload_error)
            assert summary.digest == profile_digest(profile(FIRST, None))
            (told,) = caplog.records
            assert "the profile before stays in use" in told.message
            write_atomically(path, profile_text(profile(SECOND, None)))
            assert str((await ask(router)).target) == SECOND
            assert router.health_summary().reload_error is None

    asyncio.run(run())


def test_a_call_under_way_ends_on_the_profile_that_it_began_with(path: Path) -> None:
    async def run() -> None:
        gate = asyncio.Event()

        class Slow(ScriptedProvider):
            async def complete(self, request: Request) -> Completion:
                if request.model == "first":
                    await gate.wait()
                assert not self.closed, "a provider in use was closed"
                return await super().complete(request)

        made: list[Slow] = []

        def factory(chosen: Profile, environment: Any) -> Callable[[ProviderName], Provider]:
            def make(_: ProviderName) -> Provider:
                made.append(Slow(lambda request: TEXT))
                return made[-1]

            return make

        async with live(path, Backends(), factory=factory) as router:
            under_way = asyncio.create_task(ask(router))
            await asyncio.sleep(0.01)
            # Another host that is trusted means other backends, hence other providers.
            save_profile(profile(SECOND, None, trusted_hosts=["studio.lan"]), path)
            assert str((await ask(router)).target) == SECOND
            assert [provider.closed for provider in made] == [False, False]
            gate.set()
            assert str((await under_way).target) == FIRST
            assert [provider.closed for provider in made] == [True, False]
        assert [provider.closed for provider in made] == [True, True]

    asyncio.run(run())


def test_a_stream_under_way_ends_on_the_profile_that_it_began_with(path: Path) -> None:
    async def run() -> None:
        backends = Backends()
        async with live(path, backends) as router:
            stream = router.stream("alignment", QUESTION)
            await anext(stream)
            save_profile(profile(SECOND, None, trusted_hosts=["studio.lan"]), path)
            await ask(router)
            *_, last = [event async for event in stream]
            assert str(last.target) == FIRST
            assert [provider.closed for provider in backends.made] == [True, False]

    asyncio.run(run())


def test_a_loaded_model_is_kept_where_its_backend_did_not_change(path: Path) -> None:
    async def run() -> None:
        backends = Backends()
        async with live(path, backends) as router:
            await ask(router)
            save_profile(profile(SECOND, None), path)
            await ask(router)
            assert len(backends.made) == 1
            assert not backends.made[0].closed
        assert backends.made[0].closed

    asyncio.run(run())


def test_signatures_are_asked_for_at_every_load(path: Path, tmp_path: Path) -> None:
    async def run() -> None:
        make_keys(tmp_path / "key", tmp_path / "key.pub")
        until = datetime.now(UTC) + timedelta(days=1)
        signed = sign_profile(load_profile(path), read_private_key(tmp_path / "key"), until)
        with pytest.raises(ConfigError, match="signature: is missing"):
            live(path, Backends(), verify=tmp_path / "key.pub")
        save_profile(signed, path)
        async with live(path, Backends(), verify=tmp_path / "key.pub") as router:
            save_profile(profile(SECOND, None), path)
            assert str((await ask(router)).target) == FIRST
            summary = router.health_summary()
            assert "signature: is missing" in str(summary.reload_error)
            assert summary.valid_until == signed.valid_until

    asyncio.run(run())


def test_health_summary_counts_calls_and_tells_breakers_and_errors(path: Path) -> None:
    secret = "Jane Roe"  # what an error's text may quote, and a summary must not

    async def run() -> None:
        def script(request: Request) -> str:
            if request.model == "first":
                raise ProviderError("llamacpp", f"broke on {secret}", kind="backend")
            return TEXT

        save_profile(profile(FIRST, SECOND), path)
        quick = {"breaker": lambda: Breaker(failures=2)}
        async with live(path, Backends(script), **quick) as router:
            for _ in range(4):
                await ask(router)
            first, second = router.health_summary().targets
            assert (first.target, first.provider, first.is_local) == (FIRST, "llamacpp", True)
            assert (first.answered, first.failed, first.breaker) == (0, {"backend": 2}, "open")
            assert first.last_error == "backend"
            assert datetime.fromisoformat(str(first.last_error_at)).tzinfo is not None
            assert "in a row" in str(first.resting)
            assert (second.answered, second.failed, second.breaker) == (4, {}, "closed")
            assert second.last_error is None
            assert secret not in json.dumps(asdict(router.health_summary()))
            save_profile(profile(SECOND, None), path)
            assert router.health_summary().targets[0].answered == 4, "counts outlive a reload"

    asyncio.run(run())


def test_health_summary_says_whom_the_environment_bars(path: Path) -> None:
    async def run() -> None:
        save_profile(profile(FIRST, None, privacy="local_only"), path)
        forced = read_environment(None).model_copy(update={"primary_provider": "claude"})
        async with live(path, Backends(), environment=forced) as router:
            summary = router.health_summary()
            assert summary.targets == ()
            assert "alignment is local_only" in summary.refused["alignment"]

    asyncio.run(run())


def test_a_call_that_fails_leaves_no_count_of_running_calls(path: Path) -> None:
    async def run() -> None:
        def script(_: Request) -> str:
            raise ProviderError("llamacpp", "broke", kind="backend")

        backends = Backends(script)
        async with live(path, backends) as router:
            with pytest.raises(NoAnswerError):
                await ask(router)
            backends.script = lambda _: TEXT
            save_profile(profile(SECOND, None, trusted_hosts=["studio.lan"]), path)
            await ask(router)
            assert [provider.closed for provider in backends.made] == [True, False]

    asyncio.run(run())


def test_nothing_is_left_running_after_close(path: Path) -> None:
    async def run() -> None:
        threads = set(threading.enumerate())
        async with live(path, Backends()) as router:
            await ask(router)
            save_profile(profile(SECOND, None), path)
            await ask(router)
        assert set(threading.enumerate()) == threads
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())


def test_the_package_offers_router_and_loader_without_importing_them(path: Path) -> None:
    code = (
        "import sys, soma_bench;"
        "assert not {m for m in sys.modules if m.startswith(('soma_bench.', 'pydantic'))};"
        f"from soma_bench import Router, load_profile; print(load_profile({str(path)!r}).name);"
        "import pytest\nwith pytest.raises(AttributeError): soma_bench.nothing"
    )
    root = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == "hybrid\n"
