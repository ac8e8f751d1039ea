# setup: the environment · demo: raw images to a trained model in minutes · test: what CI runs · format: tidy the code
.PHONY: setup demo test format
BIN := .venv/bin

setup:
	@PYTHON="$(PYTHON)" .ci/setup

demo: setup
	$(BIN)/prep shapes --out data/shapes
	$(BIN)/train data/shapes --recipe shapes/demo --set data.loader=dali --out runs/demo --overwrite

test: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
