"""Widgets for notebooks; the decisions behind them live elsewhere."""

from soma_bench.widgets.inspector import TrialInspector
from soma_bench.widgets.labelling import LabellingSession, LabellingWidget
from soma_bench.widgets.sweep_view import SweepView

__all__ = ["LabellingSession", "LabellingWidget", "SweepView", "TrialInspector"]
