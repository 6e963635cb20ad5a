# Every target sets up what it needs in .venv; PYTHON chooses the interpreter that makes it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow test-all lint typecheck format bench bench-engine bench-training clean

help: ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## set up a virtual environment in .venv

$(STAMP): setup.cfg pyproject.toml
	@echo "== Setting up a virtual environment in $(VENV) (PyTorch is large: some minutes the first time)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[test,lint]"
	@touch $@

demo: $(STAMP) ## train a small RANet on digits and draw both its curves (about a minute)
	@echo "== Training a small RANet on cluttered handwritten digits, then drawing its curves"
	$(BIN)/ranet train +experiment=demo run=runs/demo resume=true
	@echo "== Look at runs/demo/evaluation/anytime.png and runs/demo/evaluation/budgeted.png"

# Each worker computes on one thread and takes tests from the other when it has none left.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

test: $(STAMP) ## the tests (about 4 minutes on two cores; WORKERS=8 on more)
	@echo "== Running the tests"
	$(PYTEST)

test-slow: $(STAMP) ## the slow tests, but those that take minutes each
	@echo "== Running the slow tests"
	$(PYTEST) -m slow

test-all: $(STAMP) ## all tests, with more examples
	@echo "== Running all tests"
	$(PYTEST) -m "" --hypothesis-profile=thorough

lint: $(STAMP) ## style, formatting and imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

typecheck: $(STAMP) ## types
	$(BIN)/mypy

format: $(STAMP) ## put the code into the agreed format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP) ## how long things take on this machine
	$(BIN)/python -m benchmarks

bench-engine: $(STAMP) ## what leaving early costs and saves, for a published MSDNet and RANet in every runtime
	$(BIN)/python -m benchmarks.engine

bench-training: $(STAMP) ## what each measure against slow training gives, on the GPU or processor of this machine
	$(BIN)/python -m benchmarks.training

clean: ## remove what was built; runs and data stay
	rm -rf $(VENV) build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
