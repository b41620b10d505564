"""Find, prove and export the best LLM routing for the SOMA medical report system.

A backend in Python needs two names, which are imported when they are first used:

    from soma_bench import Router, load_profile

    profile = load_profile("profile.json", verify="signing.key.pub")
    async with Router.from_profile("profile.json", verify="signing.key.pub", watch=True) as router:
        routed = await router.ask("radiologist", inputs)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from soma_bench.routing.profile import load_profile
    from soma_bench.routing.router import Router

__version__ = "0.1.0"
__all__ = ["Router", "__version__", "load_profile"]

_HOMES = {"Router": "soma_bench.routing.router", "load_profile": "soma_bench.routing.profile"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
