"""Scoring: pure functions from an answer and its reference to named parts."""
