"""The report: one self-contained HTML file, with its figures in the same directory."""

from analysis.page.report import report

__all__ = ["report"]
