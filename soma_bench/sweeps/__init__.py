"""Sweeps: a declared set of trials, run so that nothing is lost and nothing runs twice."""
