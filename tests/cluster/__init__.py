"""Real hosts on one machine, a real ``ray up``, and failures of hosts. Needs root: ``make test-cluster``."""
