# `make` alone prints what there is. Every target sets up .venv by itself, and only when requirements.txt changed.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.DEFAULT_GOAL := help
.PHONY: help train test soak bench check format board lock clean

help: ## print this
	@echo "usage: make <target>"
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 12

train: $(READY) ## train on 5,000 MNIST digits; make train ARGS='rounding=soft_round seed=1'
	$(BIN)/python train.py $(ARGS)

test: $(READY) ## run the tests, in 3 processes, since they wait at times; in one process: make test ARGS='-n 0'
	$(BIN)/python -m pytest -n 3 --dist worksteal $(ARGS)

soak: $(READY) ## tests that take many minutes: kills at 50 moments (SEED=1 for others), more random configurations
	$(BIN)/python -m pytest -m soak $(ARGS)

bench: $(READY) ## measure speed, as ratios, and write docs/benchmarks.md; a part of it: make bench ARGS=loop
	$(BIN)/python -m benchmarks $(ARGS)

check: $(READY) ## look at format, lint and types; change nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(READY) ## rewrite the code in the project's format
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

board: $(READY) ## TensorBoard of runs/ on http://127.0.0.1:6006
	TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/tensorboard --logdir runs --host 127.0.0.1

lock: $(READY) ## compile requirements.txt anew from pyproject.toml's ranges
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --universal --python-version 3.11 --extra dev --upgrade --no-emit-index-url --no-header \
		--no-annotate --quiet pyproject.toml --output-file requirements.txt

clean: ## remove .venv and caches; runs/ stays
	rm -rf .venv .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
		|| { echo "Roundtrip needs Python 3.11, 3.12 or 3.13; say which with make PYTHON=python3.12"; exit 1; }
	@echo "setting up .venv from requirements.txt: a minute or two, 3 GB with TensorFlow ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --requirement requirements.txt
	@touch $@
