# Every target does its own set-up: a fresh machine needs Python 3.11 or later, git and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet
ROOMS := ports domain adapters entrypoints

DEPENDENCIES := $(VENV)/dependencies.stamp
PACKAGED := $(VENV)/packaged.list
LINKED := $(VENV)/linked.stamp

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup lint test test-full kubernetes sbom sweep soak chaos mutate demo gas-turbine bench calibrate clean FORCE

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(LINKED) ## Create .venv with pinned versions (the other targets do it by themselves)

lint: $(LINKED) ## Style, types and who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p autoretrain
	$(BIN)/mypy --explicit-package-bases $(wildcard tests examples benchmarks docs/*.py deploy/*.py)
	$(BIN)/lint-imports

test: lint ## All a developer needs before a commit: lint, tests, coverage of the domain
	$(BIN)/pytest -n 3 --dist loadgroup -m "not slow" --cov --cov-report=term --cov-fail-under=95

test-full: $(LINKED) ## What make test leaves out: long sweeps and replays
	$(BIN)/pytest -n 3 --dist loadgroup --no-loadscope-reorder -m slow

kubernetes: ## Build etcd and Kubernetes for the tests with Go (some minutes, once)
	@tests/kubernetes/build

sbom: $(LINKED) ## Write build/sbom.cdx.json: all that the image holds, as CycloneDX (installs it, into build/sbom)
	@$(BIN)/python -m venv --clear --without-pip build/sbom
	@$(PIP) --python build/sbom install --no-compile -c constraints.txt '.[cluster]'
	@deploy/make_sbom $(BIN)/cyclonedx-py build/sbom build/sbom.cdx.json

sweep: $(LINKED) ## Kill a real cycle at every record and act, finish it, and print the table (some minutes)
	$(BIN)/python tests/crash_sweep.py $(SWEEP)

soak: $(LINKED) ## Let the simulation run for 10 minutes; make soak SOAK="--minutes 60 --seed 7" for others
	$(BIN)/python -m autoretrain.entrypoints.testing.soak $(SOAK)

mutate: $(LINKED) ## Change the fold, gate, claims, watch, state table and hash chain a bit at a time: does a test notice?
	$(BIN)/python tests/mutate_domain.py $(MUTATE)

demo: $(LINKED) ## A fleet's life in minutes: champion, drift, retraining, promotion, rejection, rollback
	$(BIN)/autoretrain demo

gas-turbine: $(LINKED) ## Replay five real years and print the table of policies
	$(BIN)/python examples/gas_turbine/replay.py

bench: $(LINKED) ## Print what starting up and an idle tick cost
	@set -e; for script in $(filter-out benchmarks/two_controllers.py $(wildcard benchmarks/calibrate_*.py),$(wildcard benchmarks/*.py)); do $(BIN)/python $$script; done

chaos: $(LINKED) ## Two controllers finish 200 jobs while they are killed and stopped; CHAOS="--jobs 20" for others
	$(BIN)/python benchmarks/two_controllers.py $(CHAOS)

calibrate: $(LINKED) ## How often are null candidates promoted, better ones, harmless ones taken back, and drift seen that is none? CALIBRATE="--only f1" for less
	$(BIN)/python benchmarks/calibrate_gate.py $(CALIBRATE)
	$(BIN)/python benchmarks/calibrate_drift.py
	$(BIN)/python benchmarks/calibrate_sequential.py

clean: ## Remove what can be made again
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage*

# Made once: a later PYTHON does not replace the interpreter of an environment that is there (make clean does).
$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "AutoRetrain needs Python 3.11 or later, and $(PYTHON) is not that. Try: make PYTHON=python3.12 setup" >&2; \
	  exit 1; }
	@$(PYTHON) -m venv $(VENV)

# Pinned dependencies, and the package itself as links into this folder.
$(DEPENDENCIES): pyproject.toml constraints.txt | $(BIN)/pip
	@echo "Installing pinned versions into $(VENV): a minute or two, once"
	@$(PIP) install -c constraints.txt -e '.[dev]' --config-settings editable_mode=strict
	@touch $@

# A strict editable install links file by file: a new or removed module needs new links, nothing else does.
$(LINKED): $(DEPENDENCIES) $(PACKAGED)
	@$(PIP) install --no-deps --no-build-isolation -e . --config-settings editable_mode=strict
	@touch $@

$(PACKAGED): $(DEPENDENCIES) FORCE
	@find __init__.py py.typed $(ROOMS) -type f ! -path '*/__pycache__/*' | LC_ALL=C sort > $@.new
	@if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi

FORCE:
