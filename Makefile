# `make demo` runs the whole path, `make test` the tests; both make the environment they need.
VENV ?= .venv
PYTHON ?= python3.11
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help install demo test test-long check format serve-config clean
.DEFAULT_GOAL := help

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

install: $(STAMP) ## make .venv and install Motoric into it

$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "Motoric needs Python 3.11: set PYTHON=/path/to/python3.11" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25' 'setuptools>=77'
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[ingest,train,demo,dev,bench]'
	# aeon carries the recordings of basic-motions; its own dependencies are not needed for them.
	$(BIN)/python -m pip install --quiet --no-deps 'aeon==1.6.0'
	@touch $(STAMP)

demo: $(STAMP) ## real recordings to predictions over HTTP; REUSE=1 keeps the model of an earlier run
	@PATH="$(abspath $(BIN)):$$PATH" $(BIN)/motoric demo $(if $(REUSE),--reuse)

test: $(STAMP) ## all tests but the long ones
	$(BIN)/python -m pytest -m "not long"

test-long: $(STAMP) ## kills, clusters, soak
	$(BIN)/python -m pytest -m long

check: $(STAMP) ## format, lint, types and the tests that need no Ray: run it before each commit
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q -m "not ray and not long"

format: $(STAMP) ## format and sort imports
	$(BIN)/ruff check --fix --quiet . || true
	$(BIN)/ruff format .

serve-config: $(STAMP) ## write deployments/serve.yaml again after an edit of deployments/models/
	$(BIN)/python -m motoric.serving.config deployments

clean: ## remove what the targets above made, but for .venv
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist platform/*.egg-info
