"""Real hosts on one machine, a real ``ray up``, and what happens to hosts. Needs root: ``make test-cluster``."""
