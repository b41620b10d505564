"""The process beside a tuner: ``python -m soma_bench.widgets.tuner``, spoken to through its pipes."""

import signal
import sys

from soma_bench.widgets.tuner.background import serve

if __name__ == "__main__":
    # Interrupting a notebook's cell is meant for the cell alone.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    serve(sys.stdin, sys.stdout)
