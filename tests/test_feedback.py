"""A doctor's message on a finished report: what it sets to work, and what it leaves alone."""

from __future__ import annotations

import asyncio

import pytest

from asking import Agents, example, intent, review, reviews
from soma_bench.agents import AGENT_BY_NAME
from soma_bench.errors import AnswerError, ConfigError, SessionError
from soma_bench.pipeline import Feedback, Session, revise

DONE = review(verdict="pass")


def finished(order: str = "sequential", privacy: str | None = None) -> Session:
    session = Session(example().model_copy(update={"privacy": privacy}), order=order)
    asyncio.run(session.analyse(Agents({"qc_reviewer": reviews(DONE)})))
    return session


def told(session: Session, message: str, agents: Agents, **settings) -> Feedback:
    return asyncio.run(revise(session, message, agents, **settings))


def agents_for(kind: str, handler: str = "self", **settings) -> Agents:
    scripts = {"alignment": intent(kind, handler), "qc_reviewer": reviews(DONE)}
    return Agents(scripts, **settings)


# --- nothing changes ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "handler"),
    [
        *[("QUESTION", handler) for handler in ("self", *list(AGENT_BY_NAME)[1:])],
        ("UNCLEAR", "self"),
        ("UNCLEAR", "report_writer"),
        ("REVISION", "self"),
    ],
)
def test_a_question_or_an_unclear_message_changes_nothing_and_asks_alignment_only(kind, handler):
    session = finished()
    before = session.now
    agents = agents_for(kind, handler)
    feedback = told(session, "Well?", agents)
    assert agents.order == ["alignment"]
    assert session.now == before
    assert (feedback.redone, feedback.state, feedback.result) == ((), "draft_ready", before.result)
    assert feedback.reply


@pytest.mark.parametrize(
    ("handler", "said"),
    [
        ("radiologist", "14 mm solid"),
        ("pathologist", "Pneumonia (J18.9)"),
        ("report_writer", "most likely lung abscess"),
        ("qc_reviewer", "pass, 50 of 100"),
    ],
)
def test_a_question_is_answered_by_what_the_agent_concerned_has_said(handler, said):
    assert said in told(finished(), "Why?", agents_for("QUESTION", handler)).reply


def test_an_unclear_message_is_asked_back():
    assert told(finished(), "so so", agents_for("UNCLEAR")).reply.startswith("What should be")


def test_an_approval_approves_the_report_and_changes_nothing_else():
    session = finished()
    before = session.result
    agents = agents_for("APPROVAL")
    feedback = told(session, "Fine.", agents)
    assert agents.order == ["alignment"]
    assert session.state == feedback.state == "approved"
    assert session.result is before
    assert feedback.redone == ()
    again = told(session, "Yes, fine.", agents)
    assert (again.state, session.now.version) == ("approved", 3)


# --- something changes -------------------------------------------------------------------------


def test_an_edit_of_the_report_is_written_from_the_draft_and_reviewed():
    session = finished()
    first = session.result
    shorter = first.report.model_copy(update={"markdown": "## Findings\nNone."})
    agents = agents_for("REVISION", "report_writer")
    agents.scripts["report_writer"] = lambda _: shorter
    feedback = told(session, "Shorten the findings.", agents)
    assert feedback.redone == ("report_writer", "qc_reviewer")
    assert agents.order == ["alignment", *feedback.redone]
    prompt = agents.of("report_writer")[0].prompt
    assert first.report.markdown in prompt
    assert "Shorten the findings." in prompt
    assert session.state == "draft_ready"
    assert session.result is feedback.result
    assert session.result.report.markdown == "## Findings\nNone."
    assert agents.of("qc_reviewer")[0].inputs.report == "## Findings\nNone."
    assert [draft.report for draft in session.result.drafts] == [first.report, shorter]
    assert session.result.radiologist == first.radiologist


@pytest.mark.parametrize(
    ("order", "handler", "redone"),
    [
        (
            "sequential",
            "radiologist",
            ("radiologist", "pathologist", "report_writer", "qc_reviewer"),
        ),
        ("parallel", "radiologist", ("radiologist", "report_writer", "qc_reviewer")),
        ("sequential", "pathologist", ("pathologist", "report_writer", "qc_reviewer")),
        ("sequential", "qc_reviewer", ("qc_reviewer",)),
    ],
)
def test_the_agent_concerned_revises_its_answer_and_those_who_read_it_work_anew(
    order, handler, redone
):
    session = finished(order)
    earlier = AGENT_BY_NAME[handler].write(session.result.latest[handler].output)
    agents = agents_for("REVISION", handler)
    feedback = told(session, "It lies in the right lung.", agents)
    assert feedback.redone == redone
    asked = agents.of(handler)[0]
    assert asked.inputs.revision.draft == earlier
    assert "the doctor says: It lies in the right lung." in asked.prompt
    # The report keeps what nobody wanted changed.
    for writing in agents.of("report_writer"):
        assert writing.inputs.revision.draft == session.result.drafts[0].report.markdown
    for reading in agents.of("pathologist"):
        assert (reading.inputs.revision is not None) == (handler == "pathologist")


def test_revised_findings_are_what_the_others_read_and_what_the_result_holds():
    session = finished()
    found = session.result.radiologist
    moved = found.model_copy(
        update={"findings": (found.findings[0].model_copy(update={"laterality": "right"}),)}
    )
    agents = agents_for("REVISION", "radiologist")
    agents.scripts["radiologist"] = lambda _: moved
    told(session, "It lies in the right lung.", agents)
    for reader in ("pathologist", "report_writer", "qc_reviewer"):
        assert agents.of(reader)[0].inputs.findings == moved.findings
    assert session.result.radiologist == moved


def test_a_new_fact_is_kept_with_the_case_and_the_diagnosis_and_the_report_are_made_anew():
    session = finished()
    agents = agents_for("INFO", "pathologist")
    feedback = told(session, "The patient stopped smoking in 2015.", agents)
    assert feedback.redone == ("pathologist", "report_writer", "qc_reviewer")
    assert "stopped smoking in 2015" in agents.of("pathologist")[0].prompt
    assert "stopped smoking in 2015" in agents.of("report_writer")[0].prompt
    assert session.now.analysis.notes == ("The patient stopped smoking in 2015.",)
    later = agents_for("REVISION", "pathologist")
    told(session, "Think of metastases.", later)
    assert "stopped smoking in 2015" in later.of("pathologist")[0].prompt


def test_a_review_does_not_undo_a_doctors_edit_of_the_report():
    session = finished()
    agents = agents_for("REVISION", "report_writer")
    agents.scripts["qc_reviewer"] = reviews(review("critical"))
    feedback = told(session, "Leave the size out.", agents)
    assert feedback.redone == ("report_writer", "qc_reviewer")
    assert feedback.result.review.critical


def test_a_critical_issue_after_other_revisions_sends_the_report_back_once():
    agents = agents_for("REVISION", "pathologist")
    agents.scripts["qc_reviewer"] = reviews(review("critical"), DONE)
    feedback = told(finished(), "Think of metastases.", agents)
    assert feedback.redone[-2:] == ("report_writer", "qc_reviewer")
    assert len(feedback.redone) == 5
    assert len(feedback.result.drafts) == 3


def test_a_revised_approved_report_has_to_be_approved_again():
    session = finished()
    session.approve()
    told(session, "Shorten it.", agents_for("REVISION", "report_writer"))
    assert session.state == "draft_ready"


def test_a_message_and_all_that_it_sets_to_work_have_the_cases_privacy_and_identifiers():
    session = finished(privacy="local_only")
    agents = agents_for("REVISION", "radiologist")
    told(session, "It lies in the right lung.", agents)
    assert {asked.context.privacy for asked in agents.asked} == {"local_only"}
    assert {asked.context.identifiers.values for asked in agents.asked} == {
        frozenset({"Synthetic Example"})
    }


def test_a_revision_inherits_the_privacy_of_the_answer_that_it_changes():
    session = Session(example())
    strict = Agents({"qc_reviewer": reviews(DONE)}, levels={"report_writer": "local_only"})
    asyncio.run(session.analyse(strict))
    agents = agents_for("REVISION", "report_writer")
    told(session, "Shorten it.", agents)
    assert agents.of("report_writer")[0].context.privacy == "local_only"


# --- when it goes wrong ------------------------------------------------------------------------


def test_a_failed_revision_leaves_the_report_as_it_was():
    def fails(_):
        raise AnswerError("no target gave a usable answer")

    session = finished()
    before = session.now
    agents = agents_for("INFO", "pathologist")
    agents.scripts["report_writer"] = fails
    with pytest.raises(AnswerError):
        told(session, "Smoker.", agents)
    assert session.state == "draft_ready"
    assert session.result is before.result
    assert session.now.analysis == before.analysis


def test_a_cancelled_revision_leaves_the_report_as_it_was():
    session = finished()
    before = session.result

    async def go() -> None:
        agents = agents_for("REVISION", "report_writer", seconds={"report_writer": 60})
        task = asyncio.create_task(revise(session, "Shorten it.", agents))
        await asyncio.sleep(0.05)
        assert session.state == "revising"
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert agents.cancelled == ["report_writer"]

    asyncio.run(go())
    assert (session.state, session.result) == ("draft_ready", before)


def test_of_two_messages_at_once_the_second_is_refused_and_loses_nothing_of_the_first():
    session = finished()

    async def go() -> list[object]:
        slow = agents_for("REVISION", "report_writer", seconds={"report_writer": 0.1})
        late = agents_for("REVISION", "pathologist", seconds={"alignment": 0.2})
        return await asyncio.gather(
            revise(session, "Shorten it.", slow),
            revise(session, "Think of metastases.", late),
            return_exceptions=True,
        )

    first, second = asyncio.run(go())
    assert isinstance(first, Feedback)
    assert isinstance(second, SessionError)
    assert session.result is first.result


@pytest.mark.parametrize("state", ["created", "completed"])
def test_without_a_report_that_is_still_open_no_message_is_taken(state):
    session = Session(example())
    if state == "completed":
        session = finished()
        session.approve()
        session.complete()
    agents = agents_for("APPROVAL")
    with pytest.raises(SessionError, match=f"is {state}"):
        told(session, "Fine.", agents)
    assert agents.asked == []


@pytest.mark.parametrize("message", ["", "x" * 2001])
def test_an_empty_or_endless_message_is_refused_before_a_model_is_asked(message):
    agents = agents_for("APPROVAL")
    with pytest.raises(ConfigError, match="the doctor's message"):
        told(finished(), message, agents)
    assert agents.asked == []


def test_a_case_takes_only_so_many_facts():
    session = finished()
    full = session.now.analysis.model_copy(update={"notes": ("note",) * 20})
    session.move("revising")
    session.move("draft_ready", analysis=full)
    with pytest.raises(ConfigError, match="no further facts"):
        told(session, "One more.", agents_for("INFO"))
    assert session.state == "draft_ready"


def test_a_hang_in_a_revision_costs_its_deadline():
    session = finished()
    agents = agents_for("REVISION", "report_writer", seconds={"report_writer": 60})
    with pytest.raises(AnswerError, match="deadline passed before report_writer"):
        told(session, "Shorten it.", agents, deadline_s=0.3)
    assert session.state == "draft_ready"
