"""The circuit breaker: leaves a failing target alone, lets one call try it, and blames nobody wrongly."""

from __future__ import annotations

from soma_bench.routing.breaker import Breaker


class FakeClock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def opened(failures: int = 3) -> tuple[Breaker, FakeClock]:
    clock = FakeClock()
    breaker = Breaker(failures=failures, pause_s=30, clock=clock)
    for _ in range(failures):
        assert breaker.admit()
        breaker.failed()
    return breaker, clock


def test_it_opens_after_so_many_failures_in_a_row_and_not_before():
    breaker = Breaker(failures=3)
    breaker.failed()
    breaker.failed()
    assert (breaker.state, breaker.admit()) == ("closed", True)
    breaker.failed()
    assert (breaker.state, breaker.admit()) == ("open", False)


def test_a_success_between_failures_starts_the_count_anew():
    breaker = Breaker(failures=2)
    for _ in range(5):
        breaker.failed()
        breaker.succeeded()
    assert breaker.state == "closed"


def test_while_open_it_says_how_often_it_failed_and_when_it_is_tried_again():
    breaker, clock = opened()
    clock.now += 10
    assert breaker.resting() == "failed 3 times in a row; it is tried again in 20 s"


def test_after_the_pause_a_single_call_goes_through():
    breaker, clock = opened()
    clock.now += 30
    assert (breaker.state, breaker.resting()) == ("half_open", None)
    assert [breaker.admit() for _ in range(5)] == [True, False, False, False, False]
    assert "a single call is trying it now" in (breaker.resting() or "")


def test_the_probe_decides_alone():
    for ends, state in (("succeeded", "closed"), ("failed", "open")):
        breaker, clock = opened()
        clock.now += 31
        assert breaker.admit()
        getattr(breaker, ends)()
        assert breaker.state == state
        clock.now += 29
        assert breaker.admit() == (state == "closed")


def test_a_probe_that_was_given_up_leaves_the_next_call_to_try():
    breaker, clock = opened()
    clock.now += 31
    assert breaker.admit()
    breaker.released()
    assert breaker.admit()


def test_what_is_the_callers_fault_neither_opens_nor_closes_it():
    breaker = Breaker(failures=2)
    breaker.failed()
    for _ in range(10):
        breaker.released()
    assert breaker.state == "closed"
    breaker.failed()
    assert breaker.state == "open"


def test_calls_that_were_under_way_when_it_opened_do_not_prolong_the_pause():
    breaker, clock = opened()
    clock.now += 20
    breaker.failed()
    clock.now += 10
    assert breaker.admit()


def test_it_opens_again_at_the_first_failure_of_a_probe():
    breaker, clock = opened()
    for _ in range(3):
        clock.now += 30
        assert breaker.admit()
        breaker.failed()
        assert not breaker.admit()
