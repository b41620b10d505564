"""Routing: what a profile says, and how it is exported."""
