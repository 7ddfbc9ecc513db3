# Everything here needs a POSIX shell, GNU make 4, Python 3.11 or newer and the package registries; no Docker.
# `make PYTHON=python3.12 demo` takes another Python; `make test ARGS="-k cursors"` hands pytest more arguments.

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
# Test files at once. Most of their time is waiting for servers, so that one more than the cores of a laptop pays.
# In the order of the folders: files with a single long test come first, and no worker is left alone with them at the end.
WORKERS ?= 3
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
COMPILED := schemas/wire/_records.pyx schemas/wire/_records.pxd services/sequencer/partition/_sends.pyx services/projector/writing/_copy.pyx

COMPILE = $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 \
	--no-emit-index-url --no-emit-find-links --generate-hashes --quiet

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install demo test proofs check mutants chaos fuzz up clean lock

help: ## Say what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(INSTALLED) ## Install what requirements.lock says into .venv; nothing when it is there already

demo: $(INSTALLED) ## Bring up real Kafka and Postgres, run a conversation, kill a sequencer, prove the result
	$(BIN)/gapless demo $(ARGS)

test: $(INSTALLED) ## Run every test but the proofs; WORKERS=1 for one after the other
	$(BIN)/python -m devstack.class_cache
	$(BIN)/pytest -m "not proof" -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

proofs: $(INSTALLED) ## Break everything for minutes, bounded: what CI runs beside the tests
	$(BIN)/python -m devstack.class_cache
	$(BIN)/pytest -m "proof or examples" --hypothesis-profile=all-examples -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(INSTALLED) ## Lint, formatting, types, and who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

mutants: $(INSTALLED) ## Plant curated bugs one by one and see each caught by its named check (minutes)
	$(BIN)/python -m tests.mutants.run $(ARGS)

chaos: $(INSTALLED) ## Break the whole system for minutes and prove that no answer was untrue: ARGS="--minutes 20 --seed 7"
	$(BIN)/python -m tests.chaos.run $(ARGS)

fuzz: $(INSTALLED) ## Write forged record batches through a real broker for minutes: ARGS="--minutes 10 --seed 7"
	$(BIN)/python -m tests.fuzz.run $(ARGS)

up: $(INSTALLED) ## Run the whole system here until Ctrl-C
	$(BIN)/gapless up $(ARGS)

lock: $(INSTALLED) ## Resolve pyproject.toml again into both lock files; versions that still fit are kept
	$(COMPILE) --extra dev -o requirements.lock
	$(COMPILE) --constraint requirements.lock -o requirements-runtime.lock

clean: ## Remove what make and the tools left here: .venv, caches, built files
	rm -rf $(VENV) dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	find schemas services -name '_*.so' -delete

# Last and only when the whole installation stands is the stamp written: an interrupted one is done again.
# What is compiled is made here too: a change of it is a new installation.
$(INSTALLED): requirements.lock pyproject.toml hatch_build.py $(COMPILED)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Gapless needs Python 3.11 or newer, and '$(PYTHON)' is not: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; \
	  exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation -e .
	@$(BIN)/python -c 'import services.projector.writing._copy' 2>/dev/null || \
	  echo "Nothing was compiled: no C compiler, or no Python headers. All works, the sequencer and the projector slower." >&2
	@touch $@
