"""The exact optimiser: the best target and fallback for each agent under the constraints."""

from soma_bench.optimize.optimizer import Binding, optimize, what_binds
from soma_bench.optimize.profiles import build_profile
from soma_bench.optimize.solution import Choice, Infeasible, Plan, Slack, Solution
from soma_bench.routing.constraints import Constraints

__all__ = [
    "Binding",
    "Choice",
    "Constraints",
    "Infeasible",
    "Plan",
    "Slack",
    "Solution",
    "build_profile",
    "optimize",
    "what_binds",
]
