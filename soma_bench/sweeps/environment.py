"""The machine and the libraries that a run's figures were measured with."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

_LIBRARIES = (
    "soma-bench",
    "xllamacpp",
    "ollama",
    "mlx-lm",
    "anthropic",
    "openai",
    "numpy",
    "scipy",
)


def describe_environment() -> dict[str, Any]:
    """Hardware, system and library versions as JSON values, memory in bytes."""
    return {
        "hardware": {
            "cpu": _cpu_name(),
            "cores": psutil.cpu_count(logical=False) or psutil.cpu_count(),
            "memory_bytes": psutil.virtual_memory().total,
            "system": f"{platform.system()} {platform.machine()}",
        },
        "libraries": {"python": platform.python_version(), **_versions()},
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue  # an optional library that this platform does not have
    return found


def _cpu_name() -> str:
    if platform.system() == "Darwin":
        command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()  # noqa: S603 - a fixed command
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text("utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
