"""Suites from data sets that users have: one module a format, local files only."""
