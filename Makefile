# Two commands matter: `make night` shows the product, `make test` checks it. Both set up what they need.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
NIGHT ?= night
SEED ?= 2026
ADVISORIES ?= https://api.osv.dev/v1/query
SERVICES ?= services
# Of the acceptance's visit, 4000 x 4072 px each: 189 take 52 GB of disk.
RUBIN_DETECTORS ?= 189

# Files of tests at a time, those that take longest first: two more than cores, as many tests wait for what they start.
# Where a process of tests dies the others end, too: pytest-xdist waits for ever for one that replaces it and gets a file
# with a single test.
PROCESSES := 4
TESTS = $(BIN)/python -m pytest -q --numprocesses $(or $(TEST_PROCESSES),$(PROCESSES)) --dist loadfile --no-loadscope-reorder \
	--max-worker-restart 0

# Types are checked while tests wait.
BESIDE = $(MAKE) --no-print-directory --jobs 2

# One process's worth of threads each: the flow starts as many processes as there are cores.
export OMP_NUM_THREADS ?= 1
# Hundreds of processes start: each would compile all of our modules again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install setup night test test-all suite quick lint types imports acceptance services services-stop services-status bench bench-suite gate audit packages weights docs clean

help:  ## Show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

install: $(VENV)/.runtime  ## Make .venv with the pinned packages that runs need (2.3 GB); does nothing when nothing changed

setup: $(VENV)/.ready  ## The same with what tests, training and development need (3.6 GB)

# Tests whose networks take longest to compile. Pytest compiles test files, too, when it first collects them: each process
# of `make test` would compile all of them.
COMPILED_TESTS = $(wildcard tests/kernels/search/test_fused*.py) tests/kernels/objects/test_cutout_features.py

# What installs only: pip's own words are shown when it fails. By its path, so that `import nightstride` finds the package
# also where this folder, of the same name, lies in the current one. Of 30,000 modules most are never imported: those that
# are get compiled then.
define install
	@$(BIN)/python -m pip install --no-compile --disable-pip-version-check --editable '$(1)' \
		--config-settings editable_mode=compat --constraint deploy/constraints.txt > $(VENV)/pip.log 2>&1 || \
		{ cat $(VENV)/pip.log; exit 2; }
endef

# What a night needs, and nothing that only tests and benchmarks do.
$(VENV)/.runtime: pyproject.toml deploy/constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' || \
		{ echo "Python 3.11 to 3.13 is required, $(PYTHON) is another: make setup PYTHON=python3.11"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
		{ echo "cannot make a virtual environment: apt-get install python3-venv"; exit 2; }
	@echo "Installing pinned packages into $(VENV): about 2.3 GB, some minutes (tail -f $(VENV)/pip.log)."
	$(call install,.)
	@echo "Compiling: half a minute."
	@$(BIN)/python -m flows.nights.cluster.warm_up
	@touch $@

$(VENV)/.ready: $(VENV)/.runtime
	@echo "Installing what tests and training need: 3.6 GB with all of it, some minutes (tail -f $(VENV)/pip.log)."
	$(call install,.[dev])
	@echo "Compiling all detectors, and tests: two minutes."
	@{ $(BIN)/python -m pytest -qq $(COMPILED_TESTS); $(BIN)/python -m pytest -qq --collect-only tests/flows; } \
		> $(VENV)/tests.log 2>&1 & tests=$$!; \
		$(BIN)/python -m flows.nights.cluster.warm_up $(notdir $(basename $(wildcard stages/weights/detect/*.json))) && \
		{ $(BIN)/python -m pytest -qq --collect-only --ignore tests/flows tests > $(VENV)/collected.log 2>&1; \
			wait $$tests; touch $@; }

night: $(VENV)/.runtime  ## Simulate a night of 3 visits x 2 detectors, search it, evaluate it, make its page
	rm -rf $(NIGHT)
	$(BIN)/nightstride simulate --preset ztf --subtract none --visits 3 --detectors 2 --seed $(SEED) --out $(NIGHT)/raw
	$(BIN)/nightstride run $(NIGHT)/raw --out $(NIGHT)/out --json > $(NIGHT)/run.txt
	$(BIN)/nightstride verify $(NIGHT)/out
	$(BIN)/nightstride report $(NIGHT)/out --truth $(NIGHT)/raw/truth.parquet > $(NIGHT)/page.txt & page=$$!; \
	$(BIN)/nightstride evaluate detect $(NIGHT)/out --truth $(NIGHT)/raw/truth.parquet; wait $$page
	@echo; echo "The night page:"; cat $(NIGHT)/page.txt

test: lint imports  ## Lint, types, import contracts, all tests but those of services and faults
	@$(BESIDE) types suite ONLY='-m "not services and not faults"'

test-all: lint imports  ## The same with all tests: they start servers and kill processes
	@$(BESIDE) types suite

suite: setup
	$(TESTS) $(ONLY)

quick: setup  ## The tests that take no more than a second or so each
	$(TESTS) -m "not slow and not services and not faults"

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

imports: setup
	$(BIN)/lint-imports --no-logo

acceptance: setup  ## The nights behind the README's figures; a visit of Rubin's size; start-up and scanning page within their limits; the screen on 10,000 streaks; 500 exposures through a stream; thirty nights kept, and five in a bucket; faults; killed producers of alerts; overhead; 20,000 mutated files (hours)
	for spec in ztf:10 llnl:6; do \
		preset=$${spec%:*}; \
		rm -rf $(NIGHT)-$$preset; \
		$(BIN)/nightstride simulate --preset $$preset --subtract none --visits $${spec#*:} --detectors 4 --seed 2041 --out $(NIGHT)-$$preset/raw; \
		$(BIN)/nightstride run $(NIGHT)-$$preset/raw --out $(NIGHT)-$$preset/out; \
		$(BIN)/nightstride evaluate detect $(NIGHT)-$$preset/out --truth $(NIGHT)-$$preset/raw/truth.parquet; \
	done
	rm -rf $(NIGHT)-rubin
	$(BIN)/nightstride simulate --preset rubin --subtract none --visits 1 --detectors $(RUBIN_DETECTORS) --no-science --seed 2041 --out $(NIGHT)-rubin/raw
	$(BIN)/nightstride run $(NIGHT)-rubin/raw --out $(NIGHT)-rubin/out
	$(BIN)/nightstride evaluate detect $(NIGHT)-rubin/out --truth $(NIGHT)-rubin/raw/truth.parquet
	$(BIN)/python -m benchmarks.speed.startup --runs 3
	$(BIN)/python -m benchmarks.scale.vetting
	$(BIN)/python -m benchmarks.speed.screen --streaks 10000
	$(BIN)/python -m benchmarks.scale.soak --exposures 500
	$(BIN)/python -m benchmarks.scale.years
	$(BIN)/python -m benchmarks.scale.years --s3 --exposures 2000 --nights 5
	$(BIN)/python -m benchmarks.faults
	$(BIN)/python -m benchmarks.alerting.alert_kills
	$(BIN)/python -m benchmarks.speed.orchestration
	$(BIN)/python -m benchmarks.scale.rubin_overhead
	$(BIN)/python -m benchmarks.house.mutants --count 200
	$(BIN)/python -m benchmarks.guard.mutated_files --count 20000 --seed 1
	$(MAKE) packages

services: setup  ## Start PostgreSQL, a Prefect server on it and a worker (docs/operate/deployment.md); what runs is left alone
	$(BIN)/nightstride services up $(SERVICES)

services-stop: setup  ## Stop them; their data stay in $(SERVICES)
	$(BIN)/nightstride services down $(SERVICES)

services-status: setup  ## Say how they are
	@$(BIN)/nightstride services status $(SERVICES)

bench: setup  ## Measure search, stages, peers and scaling; write tables and pictures into the docs (15 minutes)
	$(call install,.[bench])
	env -u OMP_NUM_THREADS $(BIN)/python -m benchmarks.house.measured docs/measured/performance.md --only benchmarks.speed.bench_
	$(BIN)/python -m benchmarks.speed.bench_codecs
	$(BIN)/python -m benchmarks.scale.capacity_constants
	-$(BIN)/python -m benchmarks.scale.rubin_overhead --record
	$(BIN)/python -m benchmarks.house.measured docs/measured/capacity.md

bench-suite: setup  ## Small timings by pytest-benchmark, to compare versions with
	$(BIN)/python -m pytest -q benchmarks --benchmark-enable --benchmark-columns=median,iqr,rounds --benchmark-sort=name

gate: setup  ## Fail if the search has lost more than a quarter of its speed beside the plain way
	NUMBA_NUM_THREADS=1 $(BIN)/python -m benchmarks.speed.gate

audit: setup  ## Fail if a pinned package has a known vulnerability (asks ADVISORIES, a service of osv.dev's kind)
	$(BIN)/pip-audit --requirement deploy/constraints.txt --no-deps --disable-pip --progress-spinner off \
		--vulnerability-service osv --osv-url $(ADVISORIES)

packages:  ## Build sdist and wheel; run a small night from the wheel, installed outside the checkout with PYTHON
	PYTHON=$(PYTHON) .ci/packages

weights: setup  ## Train the default detector, then its reliability model on subtracted exposures, and put the weights where they are shipped
	$(call install,.[subtract])
	$(BIN)/nightstride train detect --out models/streak_net
	for kind in json safetensors; do \
		cp models/streak_net/detect.$$kind stages/weights/detect/streak_net.$$kind; \
	done
	$(BIN)/nightstride train detect --model streak_net --reliability-only --subtracted --out models/streak_net_reliability
	for kind in json safetensors; do \
		cp models/streak_net_reliability/reliability.$$kind stages/weights/reliability/streak_net.$$kind; \
	done

docs: setup  ## Build the documentation as a site, warnings as errors: build/site/index.html, read without a network
	$(BIN)/python -m sphinx -q -W --keep-going -c docs/site -d build/trees -b html . build/site
	@echo build/site/index.html

clean:  ## Remove what make made
	rm -rf $(VENV) $(NIGHT) $(NIGHT)-* models build .mypy_cache .ruff_cache .pytest_cache
