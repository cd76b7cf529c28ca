# tilefleet: `make demo` shows it at work, `make test` checks everything. Each does its own set-up.
MAKEFLAGS += --no-print-directory
.SUFFIXES:
.NOTPARALLEL:
.DELETE_ON_ERROR:
SHELL := /bin/sh
unexport PYTHONDONTWRITEBYTECODE # hundreds of processes start here, each of which would compile what it imports

VENV := .venv
BIN := $(VENV)/bin
INSTALLED_BY := pyproject.toml constraints.txt tools/venv.sh
PYTEST := -m pytest --quiet

.PHONY: help demo install dev test check test-units test-processes test-nodes test-thorough test-slow test-newest test-floor soak soak-simulation soak-fuzz soak-faults fuzz-guided audit docs bench bench-quick system-packages clean

help:
	@echo "make demo       two workers multiply and add matrices here, checked and timed"
	@echo "make test       make check, then the tests"
	@echo "make test-thorough  more: other variants and servers, instances that boot, the newest and the oldest Python found"
	@echo "make test-nodes only the tests on real Linux nodes in containers (as root)"
	@echo "make soak       SECONDS=600 each of simulated faults, of fuzzing, and of faults on real processes"
	@echo "make test-slow  what takes many minutes: each call to AWS of fleet up and down fails in turn, from an empty account"
	@echo "make check      lint, format, types, import rules, systemd units"
	@echo "make dev        the virtual environment with everything the tests need, and the pre-commit hooks"
	@echo "make bench      measure against NumPy, Dask, cubed, Ray …: about two hours, writes benchmarks/RESULTS.md and plots"
	@echo "make bench-quick the same code at smaller sizes, in five minutes; writes below benchmarks/.work"
	@echo "make fuzz-guided SECONDS=600 of inputs that atheris breeds at every door"
	@echo "make audit      known weaknesses of the libraries that users install"
	@echo "make docs       write the generated reference pages again"
	@echo "make clean      remove what these made in this directory"
	@echo
	@echo "PYTHON=/path/to/python3 chooses the interpreter (3.11 or newer)."

# ---- what a user runs -----------------------------------------------------------------------------------------------

demo: install
	@$(BIN)/python demo/run.py

install: $(VENV)/.installed

$(VENV)/.installed: $(INSTALLED_BY)
	@python=$$(tools/python.sh default) && tools/venv.sh $(VENV) "$$python" known-good
	@touch $@

# ---- what a developer runs ------------------------------------------------------------------------------------------

dev: $(VENV)/.installed-test
	@if [ -d .git ] && [ ! -e .git/hooks/pre-commit ] && command -v pre-commit >/dev/null; then pre-commit install; fi
	@echo "Ready: . $(BIN)/activate"

$(VENV)/.installed-test: $(INSTALLED_BY)
	@python=$$(tools/python.sh default) && tools/venv.sh $(VENV) "$$python" known-good test
	@touch $(VENV)/.installed $@

# Nodes wait more than they compute, so processes are tested beside them: together they take little longer than either.
test: system-packages check test-units
	@$(MAKE) --no-print-directory -j2 $(if $(filter output-sync,$(.FEATURES)),-Otarget) test-processes test-nodes
	@echo "All tests passed."

# Before a release, in about half an hour: more variants, other servers, an account's fleet whose instances boot, other Pythons.
test-thorough: $(VENV)/.installed-test system-packages
	@echo "Thorough tests"
	@$(BIN)/python $(PYTEST) -n 2 -m "thorough and not exhaustive" tests/conformance
	@$(BIN)/python $(PYTEST) -n 3 --dist loadfile -m "thorough and not exhaustive" tests/integration tests/acceptance tests/faults
	@$(BIN)/python $(PYTEST) -m "thorough and not exhaustive" tests/nodes
	@$(MAKE) test-newest test-floor

check: $(VENV)/.installed-test
	@echo "ruff check";          $(BIN)/ruff check --quiet --no-cache # a cached verdict on imports outlives moved modules
	@echo "ruff format --check"; $(BIN)/ruff format --check --quiet
	@echo "mypy";                $(BIN)/mypy --no-error-summary && $(BIN)/mypy --no-error-summary docs/generate.py $(wildcard demo/run.py)
	@echo "lint-imports";        out=$$($(BIN)/lint-imports 2>&1) || { echo "$$out"; exit 1; }
	@echo "systemd-analyze";     $(BIN)/python $(PYTEST) --no-header tests/unit/test_systemd.py

test-units: $(VENV)/.installed-test
	@echo "Unit tests, simulation and conformance on $$($(BIN)/python --version)"
	@$(BIN)/python $(PYTEST) -n 2 tests/unit tests/simulation tests/conformance tests/fuzz

# File by file, as a file shares one deployment; three at a time, as they often wait.
test-processes: $(VENV)/.installed-test
	@echo "Integration and acceptance tests"
	@$(BIN)/python $(PYTEST) -n 3 --dist loadfile tests/integration tests/acceptance tests/faults

# One at a time: the nodes share a network and this machine's cores.
test-nodes: $(VENV)/.installed-test system-packages
	@echo "Tests on real nodes"
	@$(BIN)/python $(PYTEST) tests/nodes

# Not part of make test, which samples the same: see the marker "exhaustive" in pyproject.toml.
test-slow: $(VENV)/.installed-test
	@echo "Exhaustive tests"
	@$(BIN)/python $(PYTEST) -n 2 --timeout 3600 -m exhaustive tests/integration

test-newest: $(VENV)/.installed-test
	@tools/test-on.sh newest $(BIN)/python

test-floor: $(VENV)/.installed-test
	@tools/test-on.sh 3.11 $(BIN)/python

# Longer than a test run: SECONDS in all, each part its share; PROCESSES=1 leaves the other cores alone.
SECONDS := 600
PROCESSES := 0

soak: soak-simulation soak-fuzz soak-faults

# From where the seeds begin is the day, so that each day's are new; a seed that fails is printed with how to replay it.
soak-simulation: $(VENV)/.installed-test
	@echo "Simulation, seeds of today for $(SECONDS) s"
	@$(BIN)/python -m tests.simulation.soak 0 $$(date +%Y%m%d000000) --seconds $(SECONDS) --processes $(PROCESSES)

# Mutated inputs at every door.
soak-fuzz: $(VENV)/.installed-test
	@echo "Inputs that nobody sends by mistake, for $(SECONDS) s"
	@$(BIN)/python -m tests.fuzz --seconds $(SECONDS)

# The same, bred by the branches they reach: each door its share of SECONDS. atheris has wheels for Linux alone.
DOORS := "client message" "worker message" job facts rejected record status control plan "dead letter" config names places npy zarr csv csv.gz
fuzz-guided:
	@python=$$(tools/python.sh default) && tools/venv.sh .venv-fuzz "$$python" known-good test
	@.venv-fuzz/bin/python -m pip install -qq atheris
	@for door in $(DOORS); do .venv-fuzz/bin/python -m tests.fuzz.guided "$$door" -max_total_time=$$(( $(SECONDS) / 17 + 1 )) || exit 1; done

# Known weaknesses of what users install; asks the package index's database.
audit:
	@python=$$(tools/python.sh default) && tools/venv.sh .venv-audit "$$python" known-good
	@.venv-audit/bin/python -m pip install -qq pip-audit
	@.venv-audit/bin/pip-audit --path $$(.venv-audit/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))") --skip-editable

# Real daemons behind a proxy that hurts: killed at random, then for as long as is left in calmer weather, in which nothing may grow.
soak-faults: $(VENV)/.installed-test
	@echo "200 kills and 1,000 faults, then faults until $(SECONDS) s are over"
	@$(BIN)/python -m tests.faults.soak --seconds $(SECONDS)

docs: $(VENV)/.installed-test
	@$(BIN)/python docs/generate.py

# ---- measuring ------------------------------------------------------------------------------------------------------

BENCH := .venv-bench

# The peers have an environment of their own: nobody who uses or tests tilefleet needs them.
$(BENCH)/.installed: $(INSTALLED_BY) benchmarks/requirements.txt
	@python=$$(tools/python.sh default) && tools/venv.sh $(BENCH) "$$python" known-good
	@$(BENCH)/bin/python -m pip install -qq --constraint constraints.txt --requirement benchmarks/requirements.txt
	@touch $@

bench: $(BENCH)/.installed
	@$(BENCH)/bin/python -m benchmarks

bench-quick: $(BENCH)/.installed
	@$(BENCH)/bin/python -m benchmarks --quick

system-packages:
	@tools/system-packages.sh

clean:
	rm -rf .venv .venv-* .demo benchmarks/.work build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
