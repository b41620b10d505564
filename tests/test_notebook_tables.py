"""The tables of the notebooks: what they show is what the comparison says, and rates add up."""

from __future__ import annotations

from pathlib import Path

import pytest

from made_up_runs import store_run
from soma_bench.comparison import compare_run
from soma_bench.notebooks.tables import MARK, comparison_table, details_table
from soma_bench.sweeps.store import Store


def test_an_agents_tables_say_what_the_comparison_says(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    store_run(path, agents=("radiologist",), cases=6, synthetic=frozenset({"small-q8_0"}))
    with Store(str(path)) as store:
        comparison = compare_run(store, "latest")
    rows = comparison.evidence
    names = [row.target + MARK * row.synthetic for row in rows]
    shown = comparison_table(comparison, "radiologist").data
    assert list(shown["target"]) == names
    assert list(shown[rows[0].metric]) == [row.quality for row in rows]
    for interval, row in zip(shown["95 % interval"], rows, strict=True):
        assert interval == f"{row.quality_low:.3f} to {row.quality_high:.3f}"
    assert list(shown["unread"]) == [row.answer_failures for row in rows]

    beside = details_table(comparison, "radiologist").data
    assert list(beside["target"]) == names
    assert "size error mm" in beside
    kinds = [name for name in beside if name in ("truncated rate", "unparsed rate", "refused rate")]
    assert kinds
    failed = [row.answer_failures / row.n for row in rows]
    assert list(beside[kinds].sum(axis=1)) == pytest.approx(failed)
    assert details_table(comparison, "alignment").data.shape == (1, 1), "not measured"
