# setup: the environment · demo: raw images to a trained model in minutes · test: what CI runs
# again: the tests N times, each time in another order · format: tidy the code
# WORKERS: the processes of the tests. Some tests wait for servers and time limits, so 3 keep two cores busy.
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

WORKERS ?= 3
COMPILES := tests/pipelines/executors/test_interpolation.py
DECODER := tests/pipelines/decoding/test_jpeg_entries.py tests/pipelines/decoding/test_crc32.py
test: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	@# mypy uses one core. The kernels are compiled on another one, into the cache, by tests that
	@# `pytest -n` runs again: each of its processes would compile each kernel.
	@$(BIN)/pytest -n 0 $(COMPILES) >/dev/null 2>&1 & echo $(BIN)/mypy; $(BIN)/mypy; status=$$?; \
	  $(BIN)/pytest -n 0 $(DECODER) >/dev/null 2>&1; wait; exit $$status
	@# Each process begins with one part of the tests, so most modules make their fixtures once.
	$(BIN)/pytest -n $(WORKERS) --dist worksteal

N ?= 10
again: setup
	@for seed in $$(seq 1 $(N)); do \
	  echo "order $$seed of $(N)"; \
	  $(BIN)/pytest -n $(WORKERS) --dist worksteal -p randomly -p "no:cacheprovider" --randomly-seed=$$seed --randomly-dont-reset-seed || exit 1; \
	done

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
