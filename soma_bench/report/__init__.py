"""A run's report: one HTML file for the screen, for paper, and for people without this program."""

from soma_bench.report.decision import Decision, Demands, Undecided
from soma_bench.report.page import Report, build_report, render

__all__ = ["Decision", "Demands", "Report", "Undecided", "build_report", "render"]
