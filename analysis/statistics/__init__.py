"""Statistics of paired differences: arrays in, numbers out; no files, no plots."""
