"""The sweep view and the inspector in a real browser: buttons, keys, what a reader of screens gets.

The page holds the panels' own scripts; in the place of a notebook's connection stands a function
that hands commands to Python and fetches the state.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from browser import chromium, jupyterlab, open_notebook, open_page, scrolls_sideways
from soma_bench.sweeps.scores import score_run
from soma_bench.sweeps.store import Store
from soma_bench.widgets import SweepView, TrialInspector
from test_inspector import HOSTILE, TWO_AGENTS, script
from test_lab import write_notebook
from test_runner import declared
from test_sweep_view import Gate, execute, pool_of

SHOW = """
async ([script, style]) => {
  const source = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
  const { default: panel } = await import(source);
  let state = await window.ask(null);
  let draw = () => {};
  const take = (now) => {
    const changed = JSON.stringify(now) !== JSON.stringify(state);
    state = now;
    if (changed) draw();
  };
  const model = {
    get: () => state,
    on: (_, callback) => { draw = callback; },
    off: () => {},
    send: async (command) => take(await window.ask(command)),
  };
  document.head.append(Object.assign(document.createElement("style"), { textContent: style }));
  panel.render({ model, el: document.body });
  setInterval(async () => take(await window.ask(null)), 200);
}
"""


def show(page: Any, view: SweepView | TrialInspector) -> None:
    view._repr_mimebundle_()
    panel = view._panel

    def ask(command: Any) -> Any:
        if command is not None:
            panel._handle_custom_msg(command, [])
        return panel.state

    page.expose_function("ask", ask)
    page.evaluate(SHOW, [str(panel._esm), str(panel._css)])


def test_a_sweep_is_paused_resumed_and_seen_to_its_end_by_keys_alone(tmp_path: Path) -> None:
    gate = Gate(free=2)
    view = SweepView(
        declared(suites=TWO_AGENTS),
        store=str(tmp_path / "runs.db"),
        providers=pool_of(lambda request: gate(request) and script(request)),
    )
    with open_page(tmp_path) as page:
        show(page, view)
        page.get_by_role("button", name="Pause").press("Enter")
        page.get_by_text("Paused: the trial in flight").wait_for()
        assert view.stage == "paused"
        gate.open()
        page.get_by_role("button", name="Resume").press("Enter")
        page.get_by_text("24 of 24 trials").wait_for()
        page.get_by_text("Done", exact=True).wait_for()
        assert page.get_by_role("button", name="Stop").is_disabled()
        figures = page.get_by_role("region", name="figures by agent and target")
        assert figures.get_by_role("row").count() == 1 + 8
        assert not scrolls_sideways(page)


BEGIN = """\
import sys, time

sys.path.insert(0, {tests!r})
from test_sweep_view import ANSWER, declared, pool_of
from soma_bench.widgets import SweepView

slowly = pool_of(lambda _: time.sleep(0.5) or ANSWER)
view = SweepView(declared(repeats=20), store={store!r}, providers=slowly)
view
"""
WAIT = """\
outcome = await view.ended()
print(f"{outcome.called} called and {outcome.left} left")
"""


def test_in_a_notebook_the_buttons_work_while_a_cell_waits_for_the_end(tmp_path: Path) -> None:
    chromium()
    (tmp_path / "notebooks").mkdir()
    book = tmp_path / "notebooks" / "sweep.ipynb"
    begin = BEGIN.format(tests=str(Path(__file__).parent), store=str(tmp_path / "runs.db"))
    write_notebook(book, begin, WAIT)
    with jupyterlab(book.parent, tmp_path / "lab") as lab, open_page(tmp_path) as page:
        open_notebook(page, lab, book.name)
        page.evaluate("() => void window.jupyterapp.commands.execute('notebook:run-all-cells')")
        panel = page.locator(".soma-sweep")
        panel.get_by_text("of 240 trials").wait_for()
        panel.get_by_role("button", name="Pause").click()
        panel.get_by_text("Paused: the trial in flight").wait_for()
        panel.get_by_role("button", name="Resume").click()
        panel.get_by_text("Running", exact=True).wait_for()
        panel.get_by_role("button", name="Stop").click()
        panel.get_by_text("Stopped: what has ended is stored").wait_for()
        said = page.locator(".jp-OutputArea-output pre").get_by_text("called and").inner_text()
    called, left = (int(word) for word in said.split() if word.isdigit())
    assert called > 0
    assert called + left == 240
    with Store(str(tmp_path / "runs.db")) as store:
        assert len(list(store.trials(store.find_run("latest").id))) == called


def test_trials_are_filtered_opened_and_compared_by_keys_alone(tmp_path: Path) -> None:
    path = str(tmp_path / "runs.db")
    with Store(path, create=True) as store:
        score_run(store, execute(store, script, suites=TWO_AGENTS))
    with TrialInspector(store=path) as inspector, open_page(tmp_path) as page:
        show(page, inspector)
        page.get_by_text("1 to 24 of 24 trials").wait_for()
        page.get_by_label("Answer, thinking or error contains").fill("onerror")
        page.keyboard.press("Enter")
        page.get_by_text("1 to 12 of 12 trials").wait_for()
        page.get_by_label("Score from (0 to 1)").fill("2")
        page.keyboard.press("Enter")
        page.get_by_role("alert").get_by_text("no range within 0 to 1").wait_for()
        page.get_by_role("button", name="Clear filters").press("Enter")
        page.get_by_label("How it ended").select_option("unparsed")
        page.get_by_role("button", name="Open radiologist-g-").first.press("Enter")
        answer = page.get_by_label("answer", exact=True)
        answer.wait_for()
        assert answer.text_content() == HOSTILE
        page.get_by_role("img", name="image 1 of case radiologist-g-").wait_for()
        assert (
            page.locator("h3:focus").text_content().startswith("Radiologist, case radiologist-g-")
        )
        page.get_by_label("Compare with another answer to this case").select_option(index=1)
        page.locator("mark").first.wait_for()
        assert not scrolls_sideways(page)
