# Everything here needs a POSIX shell, GNU make 4, Python 3.11 or newer and the package registries; no Docker.
# `make PYTHON=python3.12 demo` uses another Python; `make test ARGS="-k cursors"` passes arguments to pytest.

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
# Number of test files that run in parallel. Tests mostly wait for servers, so more workers than cores still help.
# Files run in the order of their folders: those with a single long test come first, so that none of them runs alone at
# the end.
WORKERS ?= 3
# Test workers, and the processes that they start, share compiled bytecode instead of compiling everything again.
unexport PYTHONDONTWRITEBYTECODE
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
COMPILED := $(shell find schemas services -name '*.pyx' -o -name '*.pxd')

COMPILE = $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 \
	--no-emit-index-url --no-emit-find-links --generate-hashes --quiet

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install demo test proofs pure check mutants chaos fuzz up clean lock

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(INSTALLED) ## Install requirements.lock and Gapless into .venv; does nothing if it is up to date

demo: $(INSTALLED) ## Start real Kafka and Postgres, run a conversation, kill a sequencer, prove the result
	$(BIN)/gapless demo $(ARGS)

test: $(INSTALLED) ## Run every test except the proofs; WORKERS=1 runs them one by one
	$(BIN)/python -m devstack.class_cache
	$(BIN)/pytest -m "not proof" -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

proofs: $(INSTALLED) ## Run the proofs, a few minutes of injected faults; CI runs them in addition to the tests
	$(BIN)/python -m devstack.class_cache
	$(BIN)/pytest -m "proof or examples" --hypothesis-profile=all-examples -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

# Without what cannot differ: house rules, the servers of the tests, and runs of the simulation on logs without bytes.
pure: $(INSTALLED) ## Run the tests of what may be compiled once more without compiled code
	GAPLESS_PURE=1 $(BIN)/pytest -m "not proof" -n $(WORKERS) --dist loadfile --no-loadscope-reorder \
	  --ignore=tests/unit/house --ignore=tests/unit/devstack -k "not a_mistake_in_the_production_code" \
	  tests/unit tests/contract tests/simulation $(ARGS)

check: $(INSTALLED) ## Check lint, formatting, types, and the import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

mutants: $(INSTALLED) ## Plant curated bugs one by one; each must be caught by its named check (minutes)
	$(BIN)/python -m tests.mutants.run $(ARGS)

chaos: $(INSTALLED) ## Inject faults into the whole system for minutes and check every answer: ARGS="--minutes 20 --seed 7"
	$(BIN)/python -m tests.chaos.run $(ARGS)

fuzz: $(INSTALLED) ## Write forged record batches through a real broker for minutes: ARGS="--minutes 10 --seed 7"
	$(BIN)/python -m tests.fuzz.run $(ARGS)

up: $(INSTALLED) ## Run the whole system on this machine until Ctrl-C
	$(BIN)/gapless up $(ARGS)

lock: $(INSTALLED) ## Resolve pyproject.toml again into both lock files; keeps versions that still fit
	$(COMPILE) --extra dev -o requirements.lock
	$(COMPILE) --constraint requirements.lock -o requirements-runtime.lock

clean: ## Remove .venv, caches and built files
	rm -rf $(VENV) dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	find schemas services -name '_*.so' -delete

# The stamp is written last, so that an interrupted installation is repeated. The installation also compiles the
# extensions, so a change to their source repeats it.
$(INSTALLED): requirements.lock pyproject.toml hatch_build.py $(COMPILED)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Gapless needs Python 3.11 or newer, and '$(PYTHON)' is not: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; \
	  exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation -e .
	@env -u GAPLESS_PURE $(BIN)/gapless --version | grep -q compiled || \
	  echo "Nothing was compiled: no C compiler, or no Python headers. All works, the sequencer and the projector slower." >&2
	@touch $@
