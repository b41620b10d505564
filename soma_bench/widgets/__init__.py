"""Widgets for notebooks, made of ipywidgets; the decisions behind them live elsewhere."""

from soma_bench.widgets.labelling import LabellingSession, LabellingWidget
from soma_bench.widgets.tuner import RoutingTuner, tuner_or_advice

__all__ = ["LabellingSession", "LabellingWidget", "RoutingTuner", "tuner_or_advice"]
