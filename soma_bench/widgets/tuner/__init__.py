"""The tuner: demands by sliders, the exact choice beside them, in JupyterLab or Voila."""

from soma_bench.widgets.tuner.advice import tuner_or_advice
from soma_bench.widgets.tuner.widget import RoutingTuner

__all__ = ["RoutingTuner", "tuner_or_advice"]
