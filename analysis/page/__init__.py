"""The report: one self-contained HTML file, with its figures beside it."""

from analysis.page.report import report

__all__ = ["report"]
