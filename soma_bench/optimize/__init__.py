"""The exact optimiser: the best target and fallback for each agent under the constraints."""

from soma_bench.optimize.front import FrontPoint, pareto_assignments
from soma_bench.optimize.goals import Gap
from soma_bench.optimize.optimizer import Order, optimize
from soma_bench.optimize.profiles import build_profile
from soma_bench.optimize.rivals import (
    Difference,
    RunnerUp,
    best_single_model,
    runner_up,
)
from soma_bench.optimize.solution import Choice, Infeasible, Plan, Slack, Solution
from soma_bench.optimize.tradeoff import Binding, ShadowPrice, shadow_prices, what_binds
from soma_bench.routing.constraints import Constraints, Lexicographic, Objective, Weighted

__all__ = [
    "Binding",
    "Choice",
    "Constraints",
    "Difference",
    "FrontPoint",
    "Gap",
    "Infeasible",
    "Lexicographic",
    "Objective",
    "Order",
    "Plan",
    "RunnerUp",
    "ShadowPrice",
    "Slack",
    "Solution",
    "Weighted",
    "best_single_model",
    "build_profile",
    "optimize",
    "pareto_assignments",
    "runner_up",
    "shadow_prices",
    "what_binds",
]
