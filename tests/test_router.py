"""The router: every fault of a primary ends in a whole answer or in the error that policy asks for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, aclosing, asynccontextmanager
from typing import Any

import pytest

from routers import (
    ANSWER,
    QUESTION,
    TEXT,
    TROUBLES,
    Addresses,
    Trouble,
    address,
    profile,
    router_for,
    serving,
    target,
)
from scripted import ScriptedProvider, completion
from servers.base import Fault, Server, closed_port
from servers.ollama import Model, OllamaServer
from soma_bench.errors import (
    ConfigError,
    NoAnswerError,
    PrivacyError,
    ProviderError,
    ProviderFailure,
    RefusalError,
    SomaError,
)
from soma_bench.providers.pool import ProviderPool
from soma_bench.routing.breaker import Breaker
from soma_bench.routing.context import CallContext
from soma_bench.routing.deadlines import allowance
from soma_bench.routing.profile import Profile
from soma_bench.routing.router import Restarted, Routed, Router
from soma_bench.types import Completion, Options, ProviderName, Request

THRESHOLD_S = 0.4
FALLBACK_OF: dict[ProviderName, ProviderName] = {
    "ollama": "claude",
    "claude": "ollama",
    "openai": "ollama",
}


async def ask(router: Router, context: CallContext = CallContext()) -> Routed:  # noqa: B008
    return await router.ask("alignment", QUESTION, context)


async def stream(router: Router, context: CallContext = CallContext()) -> Routed:  # noqa: B008
    """The last event, after a check that the text since the last restart is the whole answer."""
    text = ""
    last: Any = None
    async for event in router.stream("alignment", QUESTION, context):
        last = event
        if isinstance(event, str):
            text += event
        elif isinstance(event, Restarted):
            text = ""
    assert isinstance(last, Routed)
    assert text == last.completion.text
    return last


class Pair:
    """A primary and its healthy fallback, each with a server of its own."""

    def __init__(self, primary: ProviderName, stack: ExitStack) -> None:
        self.names = (primary, FALLBACK_OF[primary])
        self.primary, self.fallback = (stack.enter_context(serving(name)) for name in self.names)
        self.addresses = Addresses(
            {self.names[0]: address(self.primary), self.names[1]: address(self.fallback)}
        )

    def profile(self, **changes: Any) -> Profile:
        usual = {"latency_threshold_ms": int(THRESHOLD_S * 1000)}
        return profile(target(self.names[0]), target(self.names[1]), **{**usual, **changes})

    @asynccontextmanager
    async def router(self, chosen: Profile | None = None, **changes: Any) -> AsyncIterator[Router]:
        async with ProviderPool(self.addresses.make) as pool:
            yield router_for(chosen or self.profile(), pool, **changes)

    def posts(self, server: Server) -> int:
        return sum(
            request.path in ("/api/chat", "/v1/messages", "/v1/chat/completions")
            for request in server.requests
        )


@pytest.fixture
def pair(request):
    with ExitStack() as stack:
        yield Pair(getattr(request, "param", "ollama"), stack)


@pytest.mark.parametrize("way", [ask, stream], ids=["ask", "stream"])
@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.name)
@pytest.mark.parametrize("pair", ["ollama", "claude", "openai"], indirect=True)
def test_every_fault_of_the_primary_ends_in_the_fallbacks_whole_answer(
    pair: Pair, trouble: Trouble, way: Callable[[Router], Awaitable[Routed]]
):
    async def go() -> tuple[Routed, float]:
        async with pair.router() as router:
            await way(router)  # what is asked once (models, what is loaded) is known from here on
            trouble.arrange(pair.primary)
            if trouble.name == "refused":
                pair.addresses.by_provider[pair.names[0]] = f"http://127.0.0.1:{closed_port()}/v1"
                async with pair.router() as fresh:
                    return await way(fresh), 0.0
            started = time.perf_counter()
            return await way(router), time.perf_counter() - started

    routed, seconds = asyncio.run(go())
    assert routed.output == ANSWER
    assert routed.completion.text == TEXT
    outcomes = [attempt.outcome for attempt in routed.attempts]
    if "answered" in trouble.kinds and outcomes == ["answered"]:
        return
    assert outcomes[0] in trouble.kinds.split("|"), routed.attempts
    assert (outcomes[1:], routed.fallback_used) == (["answered"], True)
    assert routed.passed_over[0].startswith(f"{target(pair.names[0])}: ")
    assert str(routed.target) == target(pair.names[1])
    assert seconds < THRESHOLD_S * 1.5 + 0.5, "a fault costs its limit and not a multiple"


class Script(ScriptedProvider):
    """A provider by script whose answers may take time, and which keeps the times of the calls."""

    def __init__(self, name: ProviderName, script: Callable[[Request], Any]) -> None:
        super().__init__(script)
        self.name = name
        self.is_local = name in ("ollama", "llamacpp", "mlx")
        self.called_at: list[float] = []

    async def complete(self, request: Request) -> Completion:
        self.called_at.append(asyncio.get_running_loop().time())
        answer = await super().complete(request)
        return answer if answer.text != "wait" else await asyncio.sleep(60, answer)


def scripted(
    primary: Callable[[Request], Any],
    fallback: Callable[[Request], Any] | None = None,
    *,
    context: Callable[[], CallContext] = CallContext,
    times: int = 1,
    way: Callable[[Router, CallContext], Awaitable[Routed]] = ask,
    chosen: dict[str, Any] | None = None,
    **router: Any,
) -> tuple[list[Routed | Exception], Script, Script]:
    """Ask ``times`` times an agent on ``llamacpp:a`` with the fallback ``claude:b``."""
    local = Script("llamacpp", primary)
    cloud = Script("claude", fallback or (lambda _: TEXT))
    used = profile("llamacpp:a", "claude:b" if fallback else None, **(chosen or {}))
    found: list[Routed | Exception] = []

    async def go() -> None:
        async with ProviderPool(lambda name: local if name == "llamacpp" else cloud) as pool:
            made = router_for(used, pool, **router)
            for _ in range(times):
                try:
                    found.append(await way(made, context()))
                except SomaError as error:
                    found.append(error)

    asyncio.run(go())
    return found, local, cloud


def fails(kind: ProviderFailure, **more: Any) -> Callable[[Request], Any]:
    def script(_: Request) -> Any:
        raise ProviderError("llamacpp", f"it is {kind}", kind=kind, **more)

    return script


def healthy(_: Request) -> str:
    return TEXT


def waits(_: Request) -> str:
    return "wait"


def within(seconds: float) -> Callable[[], CallContext]:
    def context() -> CallContext:
        return CallContext(deadline=asyncio.get_running_loop().time() + seconds)

    return context


@pytest.mark.parametrize("pair", ["ollama", "openai", "claude"], indirect=True)
def test_after_a_500_the_fallback_is_asked_within_50_ms_even_the_first_time(pair: Pair):
    async def go() -> float:
        async with pair.router() as router:
            pair.primary.fault = Fault(status=500, body=b"{}")
            router.open()
            started = time.perf_counter()
            asking = asyncio.create_task(ask(router))
            while not pair.fallback.requests:  # noqa: ASYNC110 - it comes in a server's thread
                await asyncio.sleep(0.0005)
            asked = time.perf_counter() - started
            return asked - (await asking).attempts[0].seconds

    assert asyncio.run(go()) < 0.05


@pytest.mark.parametrize("way", [ask, stream], ids=["ask", "stream"])
def test_a_hang_costs_its_limit_and_not_a_multiple(pair: Pair, way):
    async def go() -> float:
        async with pair.router() as router:
            await way(router)
            pair.primary.fault = pair.fallback.fault = Fault(then="hang")
            context = CallContext(deadline=asyncio.get_running_loop().time() + 1.0)
            started = time.perf_counter()
            with pytest.raises(NoAnswerError) as caught:
                await way(router, context)
            assert [attempt.outcome for attempt in caught.value.attempts] == ["timeout"] * 2
            return time.perf_counter() - started

    assert 0.9 < asyncio.run(go()) < 1.3


@pytest.mark.parametrize("trouble", ["500", "hang", "401"])
def test_without_auto_fallback_the_error_comes_at_once(pair: Pair, trouble: str):
    faults = {
        "500": Fault(status=500, body=b"{}"),
        "hang": Fault(then="hang"),
        "401": Fault(status=401, body=b"{}"),
    }

    async def go() -> NoAnswerError:
        ollama = {"enabled": True, "timeout_s": 0.4}
        off = pair.profile(
            auto_fallback=False, providers={"ollama": ollama, "claude": {"enabled": True}}
        )
        async with pair.router(off) as router:
            await ask(router)
            pair.primary.fault = faults[trouble]
            with pytest.raises(NoAnswerError, match="ollama:qwen3:8b") as caught:
                await ask(router)
            return caught.value

    error = asyncio.run(go())
    assert len(error.attempts) == 1
    assert pair.fallback.requests == []
    assert pair.posts(pair.primary) == 2


def test_all_targets_down_is_one_error_that_names_each_and_why(pair: Pair):
    async def go() -> NoAnswerError:
        pair.primary.fault = Fault(status=503, body=b'{"error": "server busy"}')
        pair.fallback.fault = Fault(status=500, body=b"{}")
        async with pair.router() as router:
            with pytest.raises(NoAnswerError) as caught:
                await ask(router)
            return caught.value

    error = asyncio.run(go())
    text = str(error)
    assert text.startswith("alignment: no target gave a usable answer; ")
    assert "ollama:qwen3:8b: ollama: server busy" in text
    assert "claude:claude-sonnet-5-5: claude: " in text
    assert isinstance(error.__cause__, ProviderError)


def test_one_retry_and_no_more_when_no_target_is_left():
    found, local, _ = scripted(fails("backend"), fails("overloaded"))
    assert isinstance(found[0], NoAnswerError)
    assert [str(attempt.target) for attempt in found[0].attempts] == [
        "llamacpp:a",
        "claude:b",
        "llamacpp:a",
    ]
    answers = iter([fails("cut_off"), healthy])
    found, local, _ = scripted(lambda request: next(answers)(request))
    assert isinstance(found[0], Routed)
    assert (len(local.requests), found[0].fallback_used) == (2, False)


@pytest.mark.parametrize(
    "kind",
    ["timeout", "bad_key", "bad_request", "model_missing", "out_of_memory", "context_too_long"],
)
def test_what_another_try_cannot_mend_is_not_tried_again(kind):
    found, local, _ = scripted(fails(kind))
    assert isinstance(found[0], NoAnswerError)
    assert len(local.requests) == 1


def test_no_retry_begins_that_the_deadline_does_not_allow():
    found, local, _ = scripted(fails("backend"), context=within(0.1), retry_s=0.2)
    assert isinstance(found[0], NoAnswerError)
    assert len(local.requests) == 1


@pytest.mark.parametrize(
    ("wait_s", "left_s", "threshold_ms", "waits_for_it"),
    [
        (0.1, None, 5_000, True),
        (0.1, 5.0, 5_000, True),
        (0.5, 0.3, 5_000, False),
        (0.5, None, 300, False),
        (None, None, 5_000, False),
        (600.0, 5.0, 30_000, False),
    ],
)
def test_a_rate_limit_is_waited_for_only_where_the_wait_fits(
    wait_s, left_s, threshold_ms, waits_for_it
):
    answers = iter([fails("rate_limited", wait_s=wait_s), healthy])
    found, local, cloud = scripted(
        lambda request: next(answers)(request),
        healthy,
        context=within(left_s) if left_s else CallContext,
        chosen={"latency_threshold_ms": threshold_ms},
    )
    routed = found[0]
    assert isinstance(routed, Routed)
    assert str(routed.target) == ("llamacpp:a" if waits_for_it else "claude:b")
    assert routed.fallback_used != waits_for_it
    if waits_for_it:
        assert local.called_at[1] - local.called_at[0] >= wait_s
    else:
        assert cloud.called_at[0] - local.called_at[0] < 0.05


def test_a_rate_limit_that_comes_again_is_not_waited_for_twice():
    found, local, _ = scripted(fails("rate_limited", wait_s=0.05), healthy)
    assert isinstance(found[0], Routed)
    assert (len(local.requests), str(found[0].target)) == (2, "claude:b")


@pytest.mark.parametrize("way", [ask, stream], ids=["ask", "stream"])
def test_a_refusal_is_never_routed_around(way):
    refused = completion("I cannot help with that.", finish="refusal")
    found, _, cloud = scripted(lambda _: refused, healthy, way=way)
    assert isinstance(found[0], RefusalError)
    assert "llamacpp:a refuses to answer by its safety policy" in str(found[0])
    assert cloud.requests == []


def test_a_prompt_too_long_for_the_primary_goes_where_it_fits():
    found, local, _ = scripted(healthy, healthy, options=Options(context_tokens=256))
    routed = found[0]
    assert isinstance(routed, Routed)
    assert (local.requests, str(routed.target)) == ([], "claude:b")
    assert [attempt.outcome for attempt in routed.attempts] == ["length", "answered"]


def test_what_the_backend_finds_too_long_goes_to_a_longer_context_and_to_no_shorter_one():
    found, _, cloud = scripted(fails("context_too_long"), healthy, options=Options())
    assert isinstance(found[0], NoAnswerError), "2048 tokens there are no more than 2048 here"
    assert cloud.requests == []
    assert "its context of 2048 tokens is no longer" in str(found[0])
    found, _, cloud = scripted(
        fails("context_too_long"), healthy, options=Options(context_tokens=1024)
    )
    assert isinstance(found[0], Routed)
    assert len(cloud.requests) == 1


def test_a_target_that_keeps_failing_is_left_alone_and_tried_again_by_one_call():
    now = [0.0]
    answers = {"fails": True}

    def script(request: Request) -> str:
        return fails("backend")(request) if answers["fails"] else TEXT

    local, cloud = Script("llamacpp", script), Script("claude", healthy)

    async def go() -> list[str]:
        seen = []
        async with ProviderPool(lambda name: local if name == "llamacpp" else cloud) as pool:
            made = router_for(
                profile("llamacpp:a", "claude:b"),
                pool,
                breaker=lambda: Breaker(clock=lambda: now[0]),
            )
            for step in range(7):
                if step == 5:
                    now[0] = 31.0
                    answers["fails"] = False
                routed = await ask(made)
                seen.append(" ".join(attempt.outcome for attempt in routed.attempts))
            return seen

    assert asyncio.run(go()) == [
        *["backend answered"] * 3,
        *["resting answered"] * 2,
        *["answered"] * 2,
    ]
    assert len(local.requests) == 5


def test_a_single_target_that_keeps_failing_fails_at_once_and_says_when_it_is_tried_again():
    found, local, _ = scripted(fails("backend"), times=5, retry_s=0)
    assert len(local.requests) == 3
    assert "failed 3 times in a row; it is tried again in 30 s" in str(found[-1])
    assert isinstance(found[-1], NoAnswerError)


@pytest.mark.parametrize(
    "script",
    [
        fails("bad_request"),
        fails("bad_key"),
        fails("context_too_long"),
        fails("rate_limited"),
        lambda _: "no JSON",
    ],
)
def test_what_is_not_the_backends_fault_never_keeps_it_from_being_asked(script):
    _, local, _ = scripted(script, times=6, retry_s=0)
    assert len(local.requests) == 6


def test_a_deadline_that_was_too_short_is_no_fault_of_the_backends():
    _, local, _ = scripted(waits, times=5, retry_s=0, context=within(0.03))
    assert len(local.requests) == 5


def test_a_target_that_cannot_honour_what_is_asked_is_passed_over():
    def script(_: Request) -> str:
        raise ConfigError("llamacpp: a cannot honour thinking=high")

    found, _, _ = scripted(script, healthy)
    assert isinstance(found[0], Routed)
    assert found[0].passed_over == ("llamacpp:a: llamacpp: a cannot honour thinking=high",)


@pytest.mark.parametrize("way", [ask, stream], ids=["ask", "stream"])
def test_a_fallback_that_privacy_forbids_is_not_started_however_slow_the_primary_is(
    pair: Pair, way
):
    private = CallContext(privacy="local_only")

    async def go() -> Routed:
        async with pair.router() as router:
            await way(router)
            pair.primary.fault = Fault(delay_s=2 * THRESHOLD_S)
            routed = await way(router, private)
            pair.primary.fault = Fault(status=500, body=b"{}")
            with pytest.raises(NoAnswerError) as caught:
                await way(router, private)
            words = "claude:claude-sonnet-5-5: leaves this machine, and the data are local_only"
            assert words in str(caught.value)
            return routed

    routed = asyncio.run(go())
    assert (routed.privacy, routed.fallback_used) == ("local_only", False)
    assert pair.fallback.requests == []


def test_data_that_may_go_nowhere_are_a_privacy_error():
    with ExitStack() as stack:
        server = stack.enter_context(serving("claude"))
        addresses = Addresses({"claude": address(server)})

        async def go() -> None:
            async with ProviderPool(addresses.make) as pool:
                router = router_for(profile(target("claude"), None), pool)
                with pytest.raises(PrivacyError, match="alignment is local_only here"):
                    await ask(router, CallContext(privacy="local_only"))

        asyncio.run(go())
        assert server.requests == []


def test_a_cold_start_is_no_fault():
    with ExitStack() as stack:
        model = Model(name="qwen3:8b", load_s=0.8, answer=(TEXT,))
        server = stack.enter_context(OllamaServer(model))
        cloud = stack.enter_context(serving("claude"))
        addresses = Addresses({"ollama": address(server), "claude": address(cloud)})

        async def go() -> Routed:
            chosen = profile("ollama:qwen3:8b", target("claude"), latency_threshold_ms=400)
            async with ProviderPool(addresses.make) as pool:
                return await ask(router_for(chosen, pool, load_s=5.0))

        routed = asyncio.run(go())
    assert str(routed.target) == "ollama:qwen3:8b"
    assert cloud.requests == []


@pytest.mark.parametrize("way", [ask, stream], ids=["ask", "stream"])
@pytest.mark.parametrize("pair", ["ollama", "claude", "openai"], indirect=True)
def test_cancelling_closes_the_connection_and_asks_nobody_else(pair: Pair, way):
    async def go() -> None:
        async with pair.router(pair.profile(latency_threshold_ms=20_000)) as router:
            await way(router)
            pair.primary.fault = Fault(then="hang")
            before = pair.posts(pair.primary)
            asking = asyncio.create_task(way(router))
            while pair.posts(pair.primary) == before:  # noqa: ASYNC110 - likewise
                await asyncio.sleep(0.002)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            last = pair.primary.requests[-1]
            assert await asyncio.to_thread(last.left_early.wait, 2.0)

    asyncio.run(go())
    assert pair.posts(pair.fallback) == 0


def test_a_live_chat_is_told_of_a_restart_between_the_two_answers(pair: Pair):
    async def go() -> list[Any]:
        async with pair.router() as router:
            await ask(router)
            pair.primary.fault = Fault(after=2, then="reset")
            return [event async for event in router.stream("alignment", QUESTION)]

    events = asyncio.run(go())
    at = next(index for index, event in enumerate(events) if isinstance(event, Restarted))
    assert "".join(events[:at]) == TEXT[: len(TEXT) // 2]
    assert (str(events[at].target), events[at].why) == (target("claude"), "cut_off")
    assert "".join(events[at + 1 : -1]) == TEXT
    assert events[-1].output == ANSWER


def test_a_chat_that_is_left_at_a_restart_leaves_the_next_call_to_try_the_target():
    now = [0.0]
    local, cloud = Script("llamacpp", fails("backend")), Script("claude", fails("backend"))

    async def go() -> Routed:
        async with ProviderPool(lambda name: local if name == "llamacpp" else cloud) as pool:
            made = router_for(
                profile("llamacpp:a", "claude:b"),
                pool,
                retry_s=0,
                breaker=lambda: Breaker(failures=1, clock=lambda: now[0]),
            )
            with pytest.raises(NoAnswerError):
                await ask(made)
            now[0] = 31.0
            async with aclosing(made.stream("alignment", QUESTION)) as events:
                assert isinstance(await anext(events), Restarted)
            cloud._script = healthy
            return await ask(made)

    assert str(asyncio.run(go()).target) == "claude:b"


def test_an_answer_says_what_it_cost_why_and_how_long_each_try_took():
    found, _, _ = scripted(fails("backend"), healthy)
    routed = found[0]
    assert isinstance(routed, Routed)
    assert routed.reason == "fallback of the route of alignment"
    assert [attempt.outcome for attempt in routed.attempts] == ["backend", "answered"]
    assert all(0 <= attempt.seconds < 1 for attempt in routed.attempts)
    found, _, _ = scripted(healthy)
    assert isinstance(found[0], Routed)
    assert found[0].cost_usd is not None
    assert 0 < found[0].cost_usd < 0.01


@pytest.mark.parametrize(
    ("given", "total_s", "load_s", "cut"),
    [
        ({"threshold_s": None, "left_s": None}, 180, 300, False),
        ({"threshold_s": 30, "left_s": None}, 30, 300, False),
        ({"threshold_s": None, "left_s": 20}, 20, 0, True),
        ({"threshold_s": 30, "left_s": 20}, 10, 0, True),
        ({"threshold_s": 30, "left_s": 20, "next_p95_s": 4}, 16, 0, True),
        ({"threshold_s": 30, "left_s": 20, "next_p95_s": 400}, 10, 0, True),
        ({"threshold_s": 30, "left_s": 100, "next_p95_s": 20}, 30, 50, False),
    ],
)
def test_a_call_gets_its_share_of_the_time_and_leaves_the_next_target_some(
    given, total_s, load_s, cut
):
    found = allowance(timeout_s=180, **given)
    assert (found.limits.total_s, found.limits.load_s, found.cut) == (total_s, load_s, cut)
    assert found.limits.first_token_s <= found.limits.total_s
