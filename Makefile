# Needs make and Python 3.11 or newer; everything else is installed into .venv/ from requirements.lock.
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
TORCH ?= cpu
ARGS ?=
# the lock is where torch's version stands; make lock TORCH_VERSION=... changes it
TORCH_VERSION ?= $(shell sed -n 's/^torch==//p' requirements.lock)
# Triton's has to be the one that the CUDA build of this torch asks for, so that one lock serves both builds
TRITON_VERSION ?= $(shell sed -n 's/^triton==\([^;]*\).*/\1/p' requirements.lock)

# compiled modules are kept, whatever the caller's environment says: where there are none, each process that imports
# torch, transformers and peft compiles them first (11 to 12 CPU s in all, 4 to 5 with them)
export PYTHONDONTWRITEBYTECODE :=

BIN := .venv/bin
STAMP := .venv/.stamp-$(TORCH)
BOOK_STAMP := .venv/.stamp-book
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --prefer-binary
ALONE := $(if $(shell command -v flock),flock -w 1800 .cache/setup.lock)
LOCK_PIP := .venv-lock/bin/python -m pip --disable-pip-version-check

ifeq ($(filter cpu cuda,$(TORCH)),)
$(error TORCH=$(TORCH) is not known: use TORCH=cpu or TORCH=cuda)
endif

# "torch==2.13.0" also accepts a wheel labelled 2.13.0+cpu, which pip prefers wherever it is offered: cuda must refuse it.
REQUIREMENTS_cpu :=
REQUIREMENTS_cuda := 'torch!=$(TORCH_VERSION)+cpu'

.PHONY: help setup reproduce test coverage check notebooks book bench bench-gpu collect faults lock clean

help: ## Show this list
	@echo "make TARGET [TORCH=cpu|cuda] [ARGS='...'] [PYTHON=python3.11]"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

setup: $(STAMP) ## Install the locked packages and mome into .venv/ (quick when nothing changed)

reproduce: $(STAMP) ## Run the notebooks into runs/ and compare with what is committed (ARGS='--only STEM --profile small')
	$(BIN)/mome reproduce $(ARGS)

# one thread a process: two processes of two threads each on two cores wait for one another
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n logical --maxprocesses 4 --dist worksteal

test: $(STAMP) ## Run the tests, in one process more than cores, at most 4 (ARGS='-k name', '-n 0' for one process)
	$(PYTEST) $(ARGS)

coverage: $(STAMP) ## Run all tests and count the lines they reach; fails below the floor in pyproject.toml
	$(PYTEST) --cov --cov-report=term $(ARGS)

check: $(STAMP) ## Lint, formatting, types and the direction of imports; changes no file
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

notebooks: $(STAMP) ## Open the notebooks in JupyterLab
	$(BIN)/jupyter lab notebooks/ $(ARGS)

book: $(STAMP) $(BOOK_STAMP) ## Make the site build/book/html: pages of notebooks/book/, notebooks with the outputs that make reproduce left
	PYTHONPATH=notebooks/book$${PYTHONPATH:+:$$PYTHONPATH} $(BIN)/python -m live build/live
	$(BIN)/python notebooks/book/assemble.py build/book/source build/live
	$(BIN)/python -m sphinx -q -W --keep-going -b html -c notebooks/book build/book/source build/book/html
	@echo "the book: build/book/html/index.html"

# beside the packages of requirements.lock, none of which it moves
$(BOOK_STAMP): notebooks/book/requirements.lock | $(STAMP)
	$(INSTALL) --quiet -c requirements.lock -r notebooks/book/requirements.lock
	@touch $@

bench: $(STAMP) ## Time kernels, lookups, training steps, answers on the CPU (ARGS='--only lookup')
	$(BIN)/mome bench --suite cpu $(ARGS)

bench-gpu: $(STAMP) ## The same on a CUDA device, at full size (TORCH=cuda)
	$(BIN)/mome bench --suite gpu $(ARGS)

collect: $(STAMP) ## Measure the tables of the real model (hours; goes on where it stopped; ARGS='--list'); all of them: commit its results
	$(BIN)/mome collect $(ARGS)
	$(if $(ARGS),,$(BIN)/mome reproduce --profile small --seeds 3 --commit)

faults: $(STAMP) ## Kill and damage what tune, save, edit, reproduce write; nothing may be lost (ARGS='--kills 20')
	OMP_NUM_THREADS=1 $(BIN)/mome faults $(ARGS)

# Two makes in one checkout set up one after the other, where there is flock; the later one finds the stamp and does nothing.
ifndef ALONE_NOW
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "mome needs Python 3.11 or newer, '$(PYTHON)' is not: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 1; }
	@mkdir -p .cache
	@$(ALONE) $(MAKE) --no-print-directory ALONE_NOW=1 $@ || \
		{ echo "setup failed, or another make setup has held .cache/setup.lock for half an hour" >&2; exit 1; }
else
$(STAMP): requirements.lock pyproject.toml
	@rm -f .venv/.stamp-*
	$(PYTHON) -m venv .venv
	$(INSTALL) -r requirements.lock $(REQUIREMENTS_$(TORCH))
	$(INSTALL) --quiet --no-build-isolation -c requirements.lock -e '.[test,check]'
	@touch $@
endif

lock: ## Resolve pyproject.toml afresh: rewrites requirements.lock and the pins of environment.yml
	rm -rf .venv-lock
	$(PYTHON) -m venv .venv-lock
	$(LOCK_PIP) install --upgrade setuptools torch==$(TORCH_VERSION) triton==$(TRITON_VERSION)
	$(LOCK_PIP) install -e '.[test,check]'
	$(LOCK_PIP) freeze --all --exclude pip --exclude mome > .venv-lock/frozen
	@! grep -E '^(nvidia|cuda)' .venv-lock/frozen || \
		{ echo "these belong to the CUDA build of torch; give pip the CPU build (CONTRIBUTING.md)" >&2; exit 1; }
	{ echo "# Made by 'make lock' from pyproject.toml; do not edit."; sed 's/+cpu$$//; s/^triton==.*/&; platform_system == "Linux"/' .venv-lock/frozen; } > requirements.lock
	sed -n 's/^\([^=]*\)==\([^;]*\).*/s/- \1==[^;]*/- \1==\2/p' requirements.lock | sed -i.old -f /dev/stdin environment.yml
	$(LOCK_PIP) install -c requirements.lock -e '.[book]'
	{ echo "# Made by 'make lock': what the extra \`book\` needs beside requirements.lock; do not edit."; \
		$(LOCK_PIP) freeze --all --exclude pip --exclude mome | grep -v -x -F -f .venv-lock/frozen; } > notebooks/book/requirements.lock
	rm -rf .venv-lock environment.yml.old

clean: ## Remove .venv/, caches and what runs left in runs/; keeps what is committed
	rm -rf .venv .venv-lock runs .cache build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage .coverage.*
	find . -type d \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +
