"""Loopback servers that speak the backends' wire protocols, each with a switch for every failure."""
