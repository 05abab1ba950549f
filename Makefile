# All a developer or a build machine needs: Python ≥ 3.11, make and git.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ROWS ?= 100000
MINUTES ?= 120

.DEFAULT_GOAL := help
.PHONY: help install run check test soak bench

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## Create .venv with the pinned dependencies and this project in it

run: install ## Start everything: Postgres, sandbox, relay and Dagster; prints `ready`
	@exec $(BIN)/crm-assets up

check: install ## Lint, format, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: check ## Check, then all tests
	$(BIN)/pytest

soak: install ## The tests that run for minutes or hours; the stateful one for MINUTES (120)
	MINUTES=$(MINUTES) $(BIN)/pytest -m soak

bench: install ## Measure with ROWS records (100000); writes bench.json
	$(BIN)/python -m crm_assets_tests.bench --rows $(ROWS) --output bench.json

# The stamp makes the second time instant; a changed lock file or pyproject.toml installs anew.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "crm_assets needs Python 3.11 or newer; choose one with make PYTHON=…")'
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@
