.PHONY: run test tensorboard clean

PYTHON ?= python3
BIN := .venv/bin

run: .venv/installed  ## train LeNet-5 on 5,000 real digits
	$(BIN)/python run.py data=mnist_5k trainer.max_epochs=15

test: .venv/installed  ## formatting, lint, types, tests and doctests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest --numprocesses 2 --dist loadfile

tensorboard: .venv/installed  ## the dashboards of all runs, on localhost
	$(BIN)/tensorboard --logdir outputs --bind_all=false

clean:  ## remove the environment and the caches; outputs/ and data/ stay
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[dev]'
	touch $@
