# `make demo` and `make test` need nothing but a Python 3.10 to 3.12: they set up .venv themselves.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: help setup demo test lint format clean

help:
	@echo "make demo    adapt a small network from streets:game to streets:real and draw the result"
	@echo "make test    run the tests"
	@echo "make lint    ruff and mypy"
	@echo "make format  let ruff format the code"

# torch goes first and pinned: asked for by another package, it could arrive in a different build.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $$(grep '^torch==' constraints.txt)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	# The official evaluator, which tests compare with. Without what it asks for: an old `typing` among it.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps cityscapesscripts==2.3.0 pyquaternion==0.9.9
	touch $(STAMP)

setup: $(STAMP)

demo: setup
	$(BIN)/python scripts/demo.py --output_dir outputs/demo

test: setup
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) outputs build dist *.egg-info
