"""Widgets for notebooks; the decisions behind them live elsewhere."""

from soma_bench.widgets.inspector import TrialInspector
from soma_bench.widgets.labelling import LabellingSession, LabellingWidget
from soma_bench.widgets.sweep_view import SweepView
from soma_bench.widgets.tuner import RoutingTuner, tuner_or_advice

__all__ = [
    "LabellingSession",
    "LabellingWidget",
    "RoutingTuner",
    "SweepView",
    "TrialInspector",
    "tuner_or_advice",
]
