"""How long a slider's move takes until its result is on the screen, measured in the browser.

    python benchmarks/bench_tuner.py [--moves 60] [--trials 100000]

A real JupyterLab in the system's Chromium, with a run of five agents and sixty targets each, whose
figures are drawn and not measured. It is the time from the input event to the frame that shows the
result: the tuner marks it itself, as ``soma-tuner:move``. What else the machine does counts in. With
``--trials`` the run has about so many, on as many targets; they are recorded and scored first, which
takes minutes for 100,000.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]

from filled_store import RUN_ID, fill  # noqa: E402

from browser import jupyterlab, open_notebook, open_page, run_all_cells  # noqa: E402
from soma_bench.sweeps.scores import score_run  # noqa: E402
from soma_bench.sweeps.store import Store  # noqa: E402
from stored_runs import store_run  # noqa: E402
from test_lab import write_notebook  # noqa: E402

CELL = """\
import time

from soma_bench.routing.constraints import Constraints
from soma_bench.widgets import RoutingTuner

began, worked = time.perf_counter(), time.process_time()
tuner = RoutingTuner(store="runs.db", constraints=Constraints(allow_synthetic=True))
took, work = time.perf_counter() - began, time.process_time() - worked
print(f"{tuner.comparison.finished:,} trials: opened in {took:.2f} s, {work:.2f} s of them CPU")
tuner
"""
MOVE = """async moves => {
    const named = name => document.querySelector(`input[type=range][aria-label="${name}"]`);
    const sliders = [named("Latency limit in s"), named("Memory limit in GiB")];
    performance.clearMeasures();
    for (let move = 0; move < moves; move += 1) {
        const slider = sliders[move % 2];
        const share = 0.1 + 0.6 * ((move * 0.618) % 1);
        slider.value = Number(slider.min) + share * (Number(slider.max) - Number(slider.min));
        slider.dispatchEvent(new Event("input", { bubbles: true }));
        await new Promise(resolve => setTimeout(resolve, 500));
    }
    await new Promise(resolve => setTimeout(resolve, 2000));
    return performance.getEntriesByName("soma-tuner:move").map(move => move.duration);
}"""


def main() -> None:
    """Move two sliders in turn and print how long their results took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--moves", type=int, default=60)
    parser.add_argument("--trials", type=int, default=0)
    options = parser.parse_args()
    moves = options.moves
    with tempfile.TemporaryDirectory() as made:
        folder, scratch = Path(made) / "notebooks", Path(made) / "scratch"
        folder.mkdir()
        with Store(str(folder / "runs.db"), create=True) as store:
            if options.trials:
                fill(store, options.trials)
                score_run(store, RUN_ID)
            else:
                store_run(store, models=20, thinking=3, cases=2)
        write_notebook(folder / "bench.ipynb", CELL)
        with jupyterlab(folder, scratch / "lab") as lab, open_page(scratch, width=1600) as page:
            open_notebook(page, lab, "bench.ipynb")
            errors = run_all_cells(page)
            if errors:
                raise SystemExit(f"the notebook failed: {errors}")
            tuner = page.locator(".soma-tuner")
            tuner.get_by_text("up to date").wait_for()
            for name in ("Latency limit", "Memory limit"):
                tuner.get_by_role("checkbox", name=f"Set a limit: {name}").check()
            page.wait_for_timeout(3000)
            took = sorted(page.evaluate(MOVE, moves))
            print(page.locator(".jp-OutputArea-output pre").first.inner_text())
    print(
        f"5 x 60 targets, {len(took)} moves: median {statistics.median(took):.0f} ms,"
        f" p95 {took[int(0.95 * len(took))]:.0f} ms, worst {took[-1]:.0f} ms;"
        f" load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    )


if __name__ == "__main__":
    main()
