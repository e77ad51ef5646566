.PHONY: run test test-all lint fetch tensorboard clean help

PYTHON ?= python3
BIN ?= .venv/bin
CONSTRAINTS ?= constraints.txt
ARGS ?=  # added to the command: make run ARGS="trainer.max_epochs=1", make test ARGS=tests/test_vgg.py

run: .venv/installed  ## train LeNet-5 on 4,000 real digits, validated on 1,000
	$(BIN)/python run.py data=mnist_5k trainer.max_epochs=15 $(ARGS)

test: lint fetch  ## formatting, lint, types, doctests and the tests that take a moment each
	$(BIN)/pytest --numprocesses 2 --dist loadfile -m "not slow and not extended" $(ARGS)

test-all: lint fetch  ## the same with whole runs that are stopped, killed and resumed; what CI runs
	$(BIN)/pytest --numprocesses 2 --dist loadfile $(ARGS)

lint: .venv/installed  ## formatting, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

fetch: .venv/installed  ## MNIST and Fashion-MNIST into data/, or into DATA_ROOT
	@for set in mnist fashion_mnist; do \
	    if test -n "$$(ls "$${DATA_ROOT:-data}/$$set" 2>/dev/null)"; then echo "$$set is in $${DATA_ROOT:-data}"; \
	    else $(BIN)/python run.py task=fetch data=$$set || exit 1; fi; \
	done

tensorboard: .venv/installed  ## the dashboards of all runs, on this machine only
	$(BIN)/tensorboard --logdir outputs $(ARGS)

help:  ## what there is to make
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/make \1\t\2/p' Makefile

clean:  ## remove the environment and the caches; outputs/ and data/ stay
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/installed: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --constraint $(CONSTRAINTS) --editable '.[dev]'
	touch $@
