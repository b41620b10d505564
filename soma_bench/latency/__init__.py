"""Latency as a measurement of its own: load, steady state, percentiles, the harness's own error."""
