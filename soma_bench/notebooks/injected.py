"""What papermill has set in this kernel.

papermill only warns of a name that a notebook does not have, and runs it with its defaults. The
notebook itself can refuse: the cell that papermill adds is in the kernel's history.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Collection

from soma_bench.errors import ConfigError

_OPENING = "# Parameters\n"
"""How papermill begins its cell."""


def refuse_unknown_names(known: Collection[str]) -> None:
    """Refuse names that were set from outside and that the notebook does not have.

    Raises:
        ConfigError: there is one.
    """
    unknown = sorted(_injected_names() - set(known))
    if unknown:
        raise ConfigError(
            f"parameters: there is no {', '.join(unknown)}; there are: {', '.join(known)}"
        )


def _injected_names() -> set[str]:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if shell is None:
        return set()
    cells = [cell for cell in shell.user_ns.get("In", ()) if cell.startswith(_OPENING)]
    return {
        target.id
        for cell in cells
        for line in ast.parse(cell).body
        if isinstance(line, ast.Assign)
        for target in line.targets
        if isinstance(target, ast.Name)
    }
