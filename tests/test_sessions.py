"""Sessions: their states, what leads where, and that whoever comes second is refused."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import get_args

import pytest

from asking import Agents, example
from soma_bench.errors import AnswerError, SessionError, SomaError
from soma_bench.pipeline import AnalysisResult, Session
from soma_bench.pipeline.sessions import TRANSITIONS, State

STATES = get_args(State)
WAY: dict[State, tuple[State, ...]] = {
    "created": (),
    "analyzing": ("analyzing",),
    "draft_ready": ("analyzing", "draft_ready"),
    "revising": ("analyzing", "draft_ready", "revising"),
    "approved": ("analyzing", "draft_ready", "approved"),
    "completed": ("analyzing", "draft_ready", "approved", "completed"),
}


def report() -> AnalysisResult:
    return asyncio.run(Session(example()).analyse(Agents()))


REPORT = report()


def session_in(state: State) -> Session:
    session = Session(example())
    for step in WAY[state]:
        session.move(step, result=REPORT if step == "draft_ready" else None)
    assert session.state == state
    return session


def test_the_usual_way_leads_from_created_to_completed():
    session = Session(example())
    seen = [session.state]
    agents = Agents()
    agents.scripts["radiologist"] = lambda _: (
        seen.append(session.state) or REPORT.radiologist  # type: ignore[func-returns-value]
    )
    result = asyncio.run(session.analyse(agents))
    seen.append(session.state)
    seen.append(session.approve().state)
    seen.append(session.complete().state)
    assert seen == ["created", "analyzing", "draft_ready", "approved", "completed"]
    assert session.result == result


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("to", STATES)
def test_a_transition_is_taken_where_the_table_has_it_and_is_an_error_elsewhere(state, to):
    session = session_in(state)
    before = session.now
    if to in TRANSITIONS[state]:
        assert session.move(to, result=REPORT).state == to
        assert session.now.version == before.version + 1
    else:
        with pytest.raises(SessionError, match=f"cannot become {to}: it is {state}"):
            session.move(to, result=REPORT)
        assert session.now == before


def test_every_state_is_reached_and_nothing_follows_completed():
    assert set(TRANSITIONS) == set(STATES)
    assert {to for targets in TRANSITIONS.values() for to in targets} == set(STATES)
    assert TRANSITIONS["completed"] == ()
    assert issubclass(SessionError, SomaError)


def test_no_draft_is_ready_without_a_report():
    session = session_in("analyzing")
    with pytest.raises(SessionError, match="without a report"):
        session.move("draft_ready")
    assert session.state == "analyzing"


def test_a_change_that_rests_on_what_is_no_longer_so_is_refused():
    session = session_in("draft_ready")
    seen = session.now
    session.move("revising", since=seen)
    session.move("draft_ready")
    with pytest.raises(SessionError, match="changed meanwhile"):
        session.move("revising", since=seen)
    assert session.state == "draft_ready"


@pytest.mark.parametrize("moved", [None, "draft_ready"])
def test_of_many_threads_one_makes_a_transition_and_the_others_are_refused(moved):
    session = session_in("draft_ready")
    seen = session.now if moved else None

    def try_it(_: int) -> bool:
        try:
            session.move("revising", since=seen)
        except SessionError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(try_it, range(64))) == 1
    assert session.now.version == 3


def test_a_failed_or_cancelled_analysis_may_be_started_again():
    def fails(_):
        raise AnswerError("no")

    async def go() -> None:
        session = Session(example())
        with pytest.raises(AnswerError):
            await session.analyse(Agents({"radiologist": fails}))
        assert session.state == "created"
        task = asyncio.create_task(session.analyse(Agents(seconds={"radiologist": 60})))
        await asyncio.sleep(0.05)
        assert session.state == "analyzing"
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert session.state == "created"
        await session.analyse(Agents())
        assert session.state == "draft_ready"

    asyncio.run(go())


def test_a_case_is_not_analysed_twice_at_once():
    async def go() -> None:
        session = Session(example())
        agents = Agents(seconds={"radiologist": 0.05})
        results = await asyncio.gather(
            session.analyse(agents), session.analyse(agents), return_exceptions=True
        )
        assert [type(result) for result in results] == [AnalysisResult, SessionError]
        assert len(agents.of("radiologist")) == 1

    asyncio.run(go())
