"""The tuner: demands by sliders, the exact choice beside them, in JupyterLab or Voila."""

from soma_bench.widgets.tuner.widget import RoutingTuner, tuner_or_advice

__all__ = ["RoutingTuner", "tuner_or_advice"]
