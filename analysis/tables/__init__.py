"""The paper's tables, computed from any results root: 5 (sources), 6 (datasets), 7 (test accuracy) and 1a."""
