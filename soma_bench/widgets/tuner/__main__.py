"""The process beside a tuner: ``python -m soma_bench.widgets.tuner``, spoken to through its pipes."""

import os
import signal
import sys

from soma_bench.widgets.tuner.background import serve

if __name__ == "__main__":
    # Interrupting a notebook's cell is meant for the cell alone.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The slider's own answer comes first where cores are few.
    if hasattr(os, "nice"):
        os.nice(10)
    serve(sys.stdin, sys.stdout)
