# memscale by name. `make` alone shows what there is. Every target makes .venv where it is missing, once.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= python3
SWEEP ?= memory_vs_moe
SCALE ?=
LAUNCHER ?=
SET ?=
RUN ?=
FOLDER ?= exported/$(RUN)
NODES ?= 4
SEEDS ?= 10
FUZZ ?= 100
RUNS ?=
OUT ?=
WORKERS ?= $(shell nproc)
BOX_FOLDER ?= $(CURDIR)/.cluster
export BOX_FOLDER
# Images of Python often set it. Without compiled files next to the sources every process compiles torch anew, which takes
# as long as importing it; pip leaves them to the first import, too.
unexport PYTHONDONTWRITEBYTECODE
# Written by cluster-up, removed by cluster-down: how to reach that cluster, and what its nodes can hold.
-include $(BOX_FOLDER)/etc/use.mk
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

overrides := $(if $(SCALE),scale=$(SCALE)) $(if $(LAUNCHER),launcher=$(LAUNCHER)) \
	$(if $(filter slurm,$(LAUNCHER)),$(cluster_overrides)) $(SET)
out := $(if $(OUT),--out '$(OUT)')
# Overrides hold patterns such as data.files=text/*.txt: they are memscale's to expand, not the shell's, as are braces.
memscale := set -f +B; exec $(BIN)/memscale

.PHONY: help setup sweep plan calibrate status watch logs retry cancel results figures reproduce findings findings-check ui data export test test-fast chaos fuzz audit lock setup-verified lint docs bench doctor clean \
	cluster-up cluster-down

help: ## show this
	@echo 'make TARGET [SWEEP=$(SWEEP)] [SCALE=laptop|node] [LAUNCHER=local|slurm] [SET="a.b=c ..."] [RUN=name] [FOLDER=path] [NODES=4]'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' Makefile

$(READY): pyproject.toml constraints.txt
	@echo "making $(VENV) (once; a minute or two)"
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 14))' || \
		{ echo "memscale needs Python 3.10 to 3.13; $(PYTHON) is $$($(PYTHON) --version 2>&1). Set PYTHON=..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --disable-pip-version-check --no-compile -c constraints.txt torch==2.13.0 -e '.[dev]' \
		| grep --line-buffered -E '^(Collecting|Downloading|Installing|Successfully|ERROR)' | cut -c 1-150; \
		exit $${PIPESTATUS[0]}
	@$(BIN)/python -m memscale.kernels.compile
	@touch $@

setup: $(READY) ## install everything into .venv

setup-verified: ## the same with the SHA-256 of every package checked, torch's apart (Python 3.11.5 on)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --disable-pip-version-check --no-compile --require-hashes --no-deps -r requirements.lock
	@$(BIN)/python -m pip install --disable-pip-version-check --no-compile -c constraints.txt torch==2.13.0
	@$(BIN)/python -m pip install --disable-pip-version-check --no-deps -e . && $(BIN)/python -m pip check
	@$(BIN)/python -m memscale.kernels.compile && touch $(READY)

sweep: $(READY) ## plan, train, evaluate, record and report SWEEP
	@$(memscale) sweep $(SWEEP) $(overrides)

plan: $(READY) ## show what SWEEP would train; touches nothing
	@$(memscale) plan $(SWEEP) $(overrides)

calibrate: $(READY) ## measure training steps of SWEEP here, for its forecast
	@$(memscale) plan $(SWEEP) $(overrides) --calibrate

status: $(READY) ## the state of every run of SWEEP
	@$(memscale) status $(SWEEP)

watch: $(READY) ## the status, renewed until all is done
	@$(memscale) watch $(SWEEP)

logs: $(READY) ## the log of RUN, or of every run that failed
	@$(memscale) logs $(SWEEP) $(RUN)

retry: $(READY) ## let RUN, or every failed run, be trained again
	@$(memscale) retry $(SWEEP) $(RUN)

cancel: $(READY) ## stop RUN, or all of SWEEP, with a checkpoint
	@$(memscale) cancel $(SWEEP) $(RUN)

results: $(READY) ## the results table of SWEEP
	@$(memscale) results $(SWEEP) $(out)

figures: $(READY) ## rebuild table, figures and report of SWEEP from its run files
	@$(memscale) figures $(SWEEP) $(out)

reproduce: $(READY) ## published fits made again, side by side
	@$(BIN)/python -m analysis reproduce --figures reproduced/figures --json reproduced/reproduced.json

findings: $(READY) ## docs/findings.md from its tables; RUNS="runs other/runs ..." gathers finished sweeps (repeats, in this order) first
	@$(BIN)/python -m analysis findings $(foreach folder,$(RUNS),--gather '$(folder)')

findings-check: $(READY) ## whether docs/findings.md is what its tables give
	@$(BIN)/python -m analysis findings --check

ui: $(READY) ## mirror SWEEP into MLflow and open its page
	@$(memscale) ui $(SWEEP)

data: $(READY) ## prepare the data of SWEEP
	@$(memscale) data $(SWEEP) $(overrides)

export: $(READY) ## the weights of RUN as a Hugging Face folder, FOLDER
	@$(memscale) export $(SWEEP) $(RUN) $(FOLDER)

test: $(READY) ## the tests, WORKERS at a time and two that wait for clusters
	@$(BIN)/python -m pytest -n $$(($(WORKERS) + 2))

test-fast: $(READY) ## the tests without the slow ones, for daily work
	@$(BIN)/python -m pytest -n $(WORKERS) -m 'not slow'

chaos: $(READY) ## a sweep on a real SLURM through every fault, in SEEDS orders (an hour)
	@MEMSCALE_CHAOS_SEEDS=$(SEEDS) $(BIN)/python -m pytest tests/launch/chaos --log-cli-level=INFO

fuzz: $(READY) ## hostile keys, YAML, names, text, tables and conditions; FUZZ=100 is some 35,000 tries
	@MEMSCALE_FUZZ=$(FUZZ) nice $(BIN)/python -m pytest -s tests/fuzz

audit: $(READY) ## licences of what is installed, and known vulnerabilities of what is pinned
	@test -x $(VENV)/audit/bin/pip-audit || { $(BIN)/python -m venv $(VENV)/audit && \
		$(VENV)/audit/bin/python -m pip install --disable-pip-version-check -q pip-audit; } || \
		echo "pip-audit cannot be installed here; licences alone are looked at"
	@PATH="$(CURDIR)/$(VENV)/audit/bin:$$PATH" $(BIN)/python -m audit

lock: ## renew the hashes of requirements.lock from constraints.txt
	@audit/lock.sh

lint: $(READY) ## ruff and mypy
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

docs: $(READY) ## the documentation as one static site, docs/_build/html
	@$(BIN)/python -m sphinx -q -W --keep-going -n -j auto docs docs/_build/html && echo "docs/_build/html/index.html"

bench: $(READY) ## the benchmarks, beside other libraries
	@$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[bench]'
	@$(BIN)/python -m benchmarks

doctor: $(READY) ## look at this machine
	@$(memscale) doctor

cluster-up: ## install and start a SLURM of NODES nodes on this machine (as root)
	@BOX_NODES=$(NODES) docker/scripts/up.sh

cluster-down: ## stop that SLURM and its jobs
	@docker/scripts/down.sh

clean: ## remove .venv and caches; the runs stay
	rm -rf $(VENV) docs/_build docs/reference .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
