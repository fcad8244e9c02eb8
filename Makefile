# `make demo` and `make test` need Python 3.11 or newer, pip and make; everything is installed into .venv.
PYTHON ?= python3
TORCH ?= torch==2.13.0
BIN := .venv/bin

CHROMIUM ?= chromium
PROCESSES ?= 2

.PHONY: demo test test-browser format fixtures readme docs schemas bench clean

demo: .venv/installed
	$(BIN)/weightstats inspect fixtures/published/silero-vad/silero_vad_16k.safetensors

test: .venv/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest --numprocesses $(PROCESSES) --dist worksteal

# The tests of pages run in a Chromium, which comes from Debian's packages where there is none.
test-browser: .venv/installed-browser
	command -v "$(CHROMIUM)" || { apt-get update && apt-get install --yes --no-install-recommends chromium; }
	CHROMIUM="$(CHROMIUM)" $(BIN)/pytest --numprocesses $(PROCESSES) tests/browser

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

.venv/installed-browser: .venv/installed-dev
	$(BIN)/python -m pip install --quiet --editable ".[dev,browser]"
	touch $@

format: .venv/installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Regenerate what is generated: the README's output, and the fixtures (published ones come from PyPI).
readme: .venv/installed-dev
	$(BIN)/python tests/readme.py

schemas: .venv/installed-dev
	$(BIN)/python tests/json_schemas.py

# What is made from the commands, and from the records' types.
docs: schemas
	$(BIN)/weightstats inspect fixtures/published/silero-vad/silero_vad_16k.safetensors --plot docs/pictures/silero-vad.svg > /dev/null
	$(BIN)/python tests/commands_documentation.py

fixtures: .venv/installed-dev
	$(BIN)/python fixtures/fetch_published.py
	$(BIN)/python fixtures/train.py
	$(BIN)/python fixtures/make.py

bench: .venv/installed-dev
	$(BIN)/python benchmarks/accuracy.py
	$(BIN)/python benchmarks/speed.py

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
