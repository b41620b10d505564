"""Widgets for notebooks, made of ipywidgets; the decisions behind them live elsewhere."""

from soma_bench.widgets.labelling import LabellingSession, LabellingWidget

__all__ = ["LabellingSession", "LabellingWidget"]
