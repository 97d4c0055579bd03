"""The paper's tables from any results root: 5 (sources), 6 (datasets) and 7 (test accuracy)."""
