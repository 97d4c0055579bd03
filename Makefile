# Start with `make demo` and `make test`. The first command creates the environment, and later ones reuse it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# Tests run in parallel. Those of one file run in the same process, which sets up shared fixtures once. Slow tests are
# distributed one by one, longest first. There is one process more than cores, because some tests wait.
# ORDER=random runs the tests in random order and prints the seed.
WORKERS ?= $(shell $(PYTHON) -c 'import os; print(1 + len(getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))(0)))')
SLOW_WORKERS ?= 3
ORDER ?= fixed
PYTEST := $(BIN)/python -m pytest -q --durations 20 $(if $(filter random,$(ORDER)),-p randomly)
# If a test hangs where signals are not handled, its process prints a traceback and exits. Another process replaces it
# and starts with the same test, at most three times.
LIMITS := -o faulthandler_exit_on_timeout=true --max-worker-restart 3

.PHONY: help demo test test-slow test-cluster check docs wheel pytest bench bench-quick clean

help:  ## Show this help
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/'

demo: $(READY)  ## Run the packaged study `demo` and write its report
	$(BIN)/deltasweep demo --results demo-results --ui

test: check pytest  ## Run `make check`, all quick tests and a sample of the slow tests

test-slow: $(READY)  ## Run the other slow tests: kills, stops, failures, damaged checkpoints, memory
	$(PYTEST) -n $(SLOW_WORKERS) --dist load --maxschedchunk 1 $(LIMITS) -o faulthandler_timeout=1300 -m "slow and not sample and not cluster"

check: docs  ## Check formatting, lint, types, import rules and the links of the documentation
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(READY)  ## Build the documentation site in build/docs/site; broken links are errors
	$(BIN)/python -m scripts.docs_site

pytest: $(READY)  ## Run the tests of `make test` without `make check`
	$(PYTEST) -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(LIMITS) -o faulthandler_timeout=700 -m "(not slow or sample) and not cluster"

bench: $(READY)  ## Run all benchmarks (about two hours and a quarter) and keep the rows in benchmarks/results
	$(BIN)/python -m benchmarks

bench-quick: $(READY)  ## Run the benchmarks in minutes, with fewer repetitions and without the largest parts
	$(BIN)/python -m benchmarks --quick

test-cluster: $(READY)  ## Run the cluster tests: hosts on this machine, a real `ray up`, lost machines (needs root)
	@[ "$$(id -u)" -eq 0 ] || { echo "make test-cluster needs root to create network namespaces. Fix: sudo make test-cluster"; exit 1; }
	$(PYTEST) $(LIMITS) -o faulthandler_timeout=1300 -m cluster tests/cluster

wheel: $(READY)  ## Build the wheel and copy the constraints, for the machines of a cluster
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .
	cp constraints.txt dist/

$(READY): pyproject.toml constraints-test.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "expected Python 3.11 or later; $(PYTHON) is $$($(PYTHON) -V 2>&1). Fix: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes --requirement constraints-test.txt
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	@touch $@

clean:  ## Remove the environment and the demo's results
	rm -rf $(VENV) demo-results build *.egg-info
