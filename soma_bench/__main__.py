"""``python -m soma_bench``: the command line."""

from soma_bench.cli import main

main()
