# The two commands: `make demo` and `make test`. Each makes the environment once; a second call reuses it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# Tests run beside each other, those of one file in one process, which makes what they share once; slow ones one by one
# wherever a process is free, the longest first. One process more than there are cores, since some of them wait.
# ORDER=random: in an order that is printed.
WORKERS ?= $(shell $(PYTHON) -c 'import os; print(1 + len(getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))(0)))')
SLOW_WORKERS ?= 3
ORDER ?= fixed
PYTEST := $(BIN)/python -m pytest -q --durations 20 $(if $(filter random,$(ORDER)),-p randomly)

.PHONY: help demo test test-slow test-cluster check wheel pytest bench bench-quick clean

help:  ## show this help
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/'

demo: $(READY)  ## run the packaged study `demo` and write its report
	$(BIN)/deltasweep demo --results demo-results

test: check pytest  ## format, lint, types, import rules; the quick tests and one of each slow kind

test-slow: $(READY)  ## the other slow ones: kills, stops, failures, damaged checkpoints, memory
	$(PYTEST) -n $(SLOW_WORKERS) --dist load --maxschedchunk 1 -m "slow and not sample and not cluster"

check: $(READY)  ## format, lint, types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

pytest: $(READY)  ## the tests of `make test` alone
	$(PYTEST) -n $(WORKERS) --dist loadfile --no-loadscope-reorder -m "(not slow or sample) and not cluster"

bench: $(READY)  ## measure everything side by side (about two hours); benchmarks/results/latest.json
	$(BIN)/python -m benchmarks

bench-quick: $(READY)  ## the same in minutes: fewer repetitions, the largest parts left out
	$(BIN)/python -m benchmarks --quick

test-cluster: $(READY)  ## hosts on this machine, a real `ray up`, lost machines; needs root
	@[ "$$(id -u)" -eq 0 ] || { echo "make test-cluster makes network namespaces and needs root. Try: sudo make test-cluster"; exit 1; }
	$(PYTEST) -m cluster tests/cluster

wheel: $(READY)  ## the project and the versions of all that it needs, for the machines of a cluster
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .
	cp constraints.txt dist/

$(READY): pyproject.toml constraints-test.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "DeltaSweep needs Python 3.11 or later; $(PYTHON) is $$($(PYTHON) -V 2>&1). Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes --requirement constraints-test.txt
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	@touch $@

clean:  ## remove the environment and the demo's results
	rm -rf $(VENV) demo-results build *.egg-info
