"""Providers: one module per kind of backend, behind one interface."""
