"""Find, prove and export the best LLM routing for the SOMA medical report system."""

__version__ = "0.1.0"
