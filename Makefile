# setup: the environment · demo: raw images to a trained model in minutes · test: what CI runs
# again: the tests N times, each time in another order · format: tidy the code
.PHONY: setup demo test again format
BIN := .venv/bin

setup:
	@PYTHON="$(PYTHON)" .ci/setup

demo: setup
	$(BIN)/prep shapes --out data/shapes
	$(BIN)/train data/shapes --recipe shapes/demo --set data.executor=dali --out runs/demo --overwrite

# Hundreds of processes of the tests import the modules of the project, and pytest rewrites its own. Many containers turn off
# the cache of bytecode by this variable; an empty value turns it on.
test again: export PYTHONDONTWRITEBYTECODE :=

COMPILES := tests/pipelines/executors/test_interpolation.py
test: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	@# mypy uses one core. The kernels are compiled on another one, into the cache, by tests that
	@# `pytest -n 2` runs again: its two processes would compile each kernel twice.
	@$(BIN)/pytest -n 0 $(COMPILES) >/dev/null 2>&1 & echo $(BIN)/mypy; $(BIN)/mypy; status=$$?; wait; exit $$status
	@# A process begins with half of the tests, so most modules make their fixtures once.
	$(BIN)/pytest -n 2 --dist worksteal

N ?= 10
again: setup
	@for seed in $$(seq 1 $(N)); do \
	  echo "order $$seed of $(N)"; \
	  $(BIN)/pytest -n 2 --dist worksteal -p randomly -p "no:cacheprovider" --randomly-seed=$$seed --randomly-dont-reset-seed || exit 1; \
	done

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
