"""Statistics of paired differences: functions from arrays to numbers, without files or plots."""
