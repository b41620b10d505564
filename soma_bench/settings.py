"""Where things live, and what the environment may change about it."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from soma_bench.errors import ConfigError

CACHE_VARIABLE = "SOMA_BENCH_CACHE"
STORE_VARIABLE = "SOMA_BENCH_STORE"
TRACE_CONTENT_VARIABLE = "SOMA_BENCH_TRACE_CONTENT"
THREADS_VARIABLE = "SOMA_BENCH_LLAMACPP_THREADS"
DEFAULT_STORE = "reports/runs.db"


def models_dir() -> Path:
    """Folder of the embedded model's files: ``$SOMA_BENCH_CACHE/models`` or the user's cache."""
    root = os.environ.get(CACHE_VARIABLE) or platformdirs.user_cache_dir("soma-bench")
    return Path(root) / "models"


def store_location(given: str | None = None) -> str:
    """Path or URL of the store: the argument, else ``$SOMA_BENCH_STORE``, else ``reports/runs.db``."""
    return given or os.environ.get(STORE_VARIABLE) or DEFAULT_STORE


def traces_content() -> bool:
    """Whether traces may carry the text of calls whose data are ``open``: only where it says true."""
    return os.environ.get(TRACE_CONTENT_VARIABLE, "").strip().lower() == "true"


def llamacpp_threads() -> int | None:
    """Threads of a model in this process: ``$SOMA_BENCH_LLAMACPP_THREADS``; None for llama.cpp's choice.

    llama.cpp takes all cores and lets its threads spin while they wait for one another. Where other
    programs use a core, that costs several times the time of one thread less.

    Raises:
        ConfigError: the variable holds no number of threads.
    """
    text = os.environ.get(THREADS_VARIABLE, "").strip()
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:5]) <= 1024):
        raise ConfigError(f"{THREADS_VARIABLE}={text[:40]!r}: must be a number from 1 to 1024")
    return int(text)
