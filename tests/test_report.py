"""The report: says what was measured and decided, fetches nothing, trusts no text."""

from __future__ import annotations

import json
import re
from collections import Counter
from contextlib import closing
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from matplotlib.figure import Figure

from browser import open_page, scrolls_sideways
from made_up_runs import store_run
from scripted import completion
from soma_bench.cli.optimize import optimize
from soma_bench.cli.report import report
from soma_bench.comparison import compare_run
from soma_bench.errors import ConfigError
from soma_bench.report import Decision, Demands, Undecided, build_report, page, render
from soma_bench.report.figures import inline_svg
from soma_bench.report.readings import read_trials
from soma_bench.routing.constraints import Constraints
from soma_bench.sweeps.scores import scored_trials
from soma_bench.sweeps.store import Store
from soma_bench.widgets import RoutingTuner

SYNTHETIC = "small-q8_0"
EVIL = "</title><script>alert(1)</script> & <img src=x>"


class Parsed(HTMLParser):
    """The tags, attributes and words of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.words += " ".join(data.split()) + " "


@pytest.fixture(scope="module")
def location(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("store") / "runs.db"
    store_run(path, cases=2, synthetic=frozenset({SYNTHETIC}), description=EVIL)
    return str(path)


@pytest.fixture(scope="module")
def store(location):
    with Store(location) as opened:
        yield opened


def call(command, *arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def written(location, tmp_path_factory) -> tuple[Path, Result]:
    out = tmp_path_factory.mktemp("out") / "report.html"
    return out, call(report, "made-up", "--store", location, "--out", out, "--allow-synthetic")


@pytest.fixture
def no_figures(monkeypatch) -> None:
    """Drawing takes most of a report's time; tests of its words do without."""
    monkeypatch.setattr(page, "_figures", lambda _: [])


def test_the_file_fetches_nothing_and_runs_nothing(written) -> None:
    text = written[0].read_text()
    parsed = Parsed(text)
    assert not {"script", "link", "img", "iframe", "object", "base"} & parsed.tags.keys()
    for tag, name, value in parsed.attributes:
        assert not name.startswith("on"), (tag, name)
        if name.endswith("href") or name in ("src", "action", "srcset"):
            assert value.startswith("#"), (tag, name, value)
    assert not re.search(r"(?i)https?://|@import|url\((?!#)", text)
    assert "default-src 'none'" in text


def test_text_of_a_sweep_or_a_backend_stays_text(written) -> None:
    parsed = Parsed(written[0].read_text())
    assert EVIL in parsed.words
    assert parsed.tags["title"] == 1


def test_the_decision_is_that_of_optimize(location, written, tmp_path) -> None:
    chosen = call(
        *(optimize, "made-up", "--store", location, "--allow-synthetic", "--json"),
        *("--out", tmp_path / "p.json"),
    )
    answer = json.loads(chosen.stdout)
    words = Parsed(written[0].read_text()).words
    for route in answer["routing"].values():
        assert route["primary"] in words
    assert f"{answer['quality']:.3f} of 5" in words
    told = "The data can tell" if answer["runner_up"]["told_apart"] else "The data cannot tell"
    assert told in words
    assert written[1].exit_code == 0
    assert f"quality {answer['quality']:.3f} of 5" in written[1].output


def test_report_command_and_tuner_say_the_same_of_the_runner_up(
    location, written, tmp_path
) -> None:
    allowed = Constraints(allow_synthetic=True)
    with Store(location) as opened:
        decision = build_report(opened, "made-up", Demands(constraints=allowed)).decision
    assert isinstance(decision, Decision)
    second = decision.second
    assert second is not None
    assert {item.way for item in second.differences} == {"paired"}
    chosen = call(
        *(optimize, "made-up", "--store", location, "--allow-synthetic", "--json"),
        *("--out", tmp_path / "p.json"),
    )
    with closing(RoutingTuner("made-up", store=location, constraints=allowed)) as tuner:
        moved = tuner.parts()["second"]
    for told in (json.loads(chosen.stdout)["runner_up"], moved):
        assert told["differences"] == [asdict(item) for item in second.differences]
        assert told["told_apart"] == second.told_apart
    words = Parsed(written[0].read_text()).words
    for item in second.differences:
        assert f"paired p = {item.p:.2g}" in words


def test_ids_are_used_once_so_that_no_figure_shows_parts_of_another(written) -> None:
    parsed = Parsed(written[0].read_text())
    ids = Counter(value for _, name, value in parsed.attributes if name == "id")
    assert max(ids.values()) == 1
    used = {value[1:] for _, name, value in parsed.attributes if name.endswith("href")}
    assert used <= ids.keys()


def test_synthetic_weights_are_announced_first_and_marked_everywhere(
    written, store, no_figures
) -> None:
    words = Parsed(written[0].read_text()).words
    assert words.index("SYNTHETIC EVIDENCE.") < words.index("The decision")
    comparison = compare_run(store, "made-up")
    rows = sum(row.synthetic for row in comparison.evidence)
    assert words.count("SYNTHETIC") >= rows
    refusing = build_report(store, "made-up", Demands())
    assert isinstance(refusing.decision, Decision)
    assert refusing.decision.synthetic == ()
    assert "no choice rests on them" in Parsed(render(refusing)).words


def test_failed_trials_are_counted_by_class_as_the_store_has_them(store) -> None:
    run = store.find_run("made-up")
    readings = read_trials(store, run.id)
    expected = Counter(
        (one.trial["agent"], one.trial["target"], one.failure_kind)
        for one in scored_trials(store, run.id)
        if one.failure_kind
    )
    for trial in store.trials(run.id):
        if trial["status"] == "error":
            expected[trial["agent"], trial["target"], "backend"] += 1
    assert readings.counts == expected
    assert {kind for _, _, kind in expected} >= {"unparsed", "truncated", "backend"}
    assert len(readings.failures) <= 40
    assert {one.agent for one in readings.failures} == {agent for agent, _, _ in expected}


def test_no_word_of_an_answer_is_in_the_report(tmp_path, no_figures) -> None:
    canary = "Zyxwvut"
    store_run(
        tmp_path / "runs.db",
        agents=("alignment",),
        cases=1,
        script=lambda _: completion(f"The patient is {canary}"),
    )
    with Store(str(tmp_path / "runs.db")) as store:
        found = build_report(store, "latest", Demands())
    assert found.readings.failures
    assert canary not in render(found)


def test_the_same_run_gives_the_same_file_to_the_byte(location, tmp_path, no_figures) -> None:
    arguments = ("made-up", "--store", location, "--out", tmp_path / "r.html", "--json")
    first, second = (json.loads(call(report, *arguments).stdout) for _ in range(2))
    assert (first["changed"], second["changed"]) == (True, False)
    assert first["decided"]


def test_where_nothing_fits_the_report_names_what_stands_against_each_other(
    store, no_figures
) -> None:
    limits = Constraints(max_latency_s=0.01)
    found = build_report(store, "made-up", Demands(constraints=limits))
    assert isinstance(found.decision, Undecided)
    assert found.decision.infeasible is not None
    words = Parsed(render(found)).words
    assert "No decision: nothing holds all limits." in words
    for name, would_do in zip(
        found.decision.infeasible.conflict, found.decision.infeasible.would_do, strict=True
    ):
        assert f"{name} ({would_do} would do)" in words
    assert found.verdict.startswith("no decision: infeasible")


def test_a_run_of_some_agents_is_reported_without_a_decision(tmp_path, no_figures) -> None:
    store_run(tmp_path / "runs.db", agents=("alignment", "pathologist"), cases=2)
    result = call(
        *(report, "latest", "--store", tmp_path / "runs.db", "--out", tmp_path / "r.html"),
        *("--max-latency", "9"),
    )
    assert result.exit_code == 0
    assert "not measured: radiologist, report_writer, qc_reviewer" in result.output
    words = Parsed((tmp_path / "r.html").read_text()).words
    assert "Radiologist, ReportWriter, QCReviewer were not measured." in words
    assert "Alignment: intent accuracy" in words


def test_a_profile_lends_its_demands_and_is_held_against_the_figures(
    location, tmp_path, no_figures
) -> None:
    path = tmp_path / "made-up.json"
    call(optimize, "made-up", "--store", location, "--max-latency", "12", "--out", path)
    out = tmp_path / "r.html"
    arguments = ("made-up", "--store", location, "--out", out)
    assert call(report, *arguments, "--profile", path).exit_code == 0
    words = Parsed(out.read_text()).words
    assert "The profile routes every agent as these figures speak for." in words
    assert "p95 latency 12 s" in words

    both = call(report, *arguments, "--profile", path, "--max-latency", "9")
    assert isinstance(both.exception, ConfigError)
    assert "--max-latency: the demands are those of --profile" in str(both.exception)


def test_an_agent_that_a_profile_routes_otherwise_is_named(store) -> None:
    ours = build_report(store, "made-up", Demands(constraints=Constraints(allow_synthetic=True)))
    assert isinstance(ours.decision, Decision)
    profile = ours.decision.profile
    route = profile.routing["alignment"]
    swapped = route.model_copy(update={"primary": route.fallback, "fallback": route.primary})
    other = profile.model_copy(update={"routing": {**profile.routing, "alignment": swapped}})
    demands = Demands(constraints=profile.constraints, profile=other)
    found = build_report(store, "made-up", demands).decision
    assert isinstance(found, Decision)
    (departure,) = found.departures
    assert departure.agent == "alignment"
    assert departure.profile.startswith(str(route.fallback))
    assert departure.figures.startswith(route.primary)


def test_it_helps_with_an_example_and_takes_the_limits_that_optimize_takes() -> None:
    ours, theirs = (call(command, "--help").output for command in (report, optimize))
    assert "Example: soma-bench report" in ours
    limits = set(re.findall(r"^  (--[a-z-]+)", theirs, re.MULTILINE))
    assert limits - set(re.findall(r"^  (--[a-z-]+)", ours, re.MULTILINE)) == {
        "--name",
        "--time-limit",
    }


@pytest.mark.parametrize("name", ["runs.db", "report.json", "report"])
def test_only_a_file_that_is_named_html_is_written(name: str, location, tmp_path) -> None:
    path = tmp_path / name
    path.write_text("precious")
    result = call(report, "made-up", "--store", location, "--out", path)
    assert isinstance(result.exception, ConfigError)
    assert "does not end in .html" in str(result.exception)
    assert path.read_text() == "precious"


def test_a_figure_follows_the_page_into_the_dark() -> None:
    figure = Figure(figsize=(2, 1))
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="#222222")
    axes.plot([0, 1], [1, 0], color="#E69F00")
    text = inline_svg(figure, "one", 'two "lines"')
    assert text == inline_svg(figure, "one", 'two "lines"')
    assert "var(--ink)" in text
    assert "#222222" not in text
    assert "#e69f00" in text.lower()
    assert 'aria-label="two &quot;lines&quot;"' in text
    assert all(part.startswith("one-") for part in re.findall(r'\bid="([^"]*)"', text))


def test_it_opens_without_a_network_in_light_and_dark_and_fits_the_window(
    written, tmp_path
) -> None:
    backgrounds = []
    with open_page(tmp_path, width=1280) as shown:
        for scheme in ("light", "dark"):
            shown.emulate_media(color_scheme=scheme)
            shown.goto(written[0].as_uri())
            assert not scrolls_sideways(shown)
            backgrounds.append(
                shown.evaluate("() => getComputedStyle(document.body).backgroundColor")
            )
        shown.emulate_media(media="print", color_scheme="dark")
        backgrounds.append(shown.evaluate("() => getComputedStyle(document.body).backgroundColor"))
    assert backgrounds == ["rgb(255, 255, 255)", "rgb(22, 24, 27)", "rgb(255, 255, 255)"]
