# setup: the environment · demo: raw images to a trained model in minutes · test: what CI runs
# again: the tests N times, each time in another order · format: tidy the code
.PHONY: setup demo test again format
BIN := .venv/bin

setup:
	@PYTHON="$(PYTHON)" .ci/setup

demo: setup
	$(BIN)/prep shapes --out data/shapes
	$(BIN)/train data/shapes --recipe shapes/demo --set data.executor=dali --out runs/demo --overwrite

test: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest -n 2

N ?= 10
again: setup
	@for seed in $$(seq 1 $(N)); do \
	  echo "order $$seed of $(N)"; \
	  $(BIN)/pytest -n 2 -p randomly -p "no:cacheprovider" --randomly-seed=$$seed --randomly-dont-reset-seed || exit 1; \
	done

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
