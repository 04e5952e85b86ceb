# The same few commands by hand and in CI. Two of them are all that a fresh machine needs: make demo, make test.
SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not ((3, 11) <= sys.version_info < (3, 14)))' 2>/dev/null && echo $$p && break; done)
PIP := $(BIN)/python -m pip --disable-pip-version-check -q

.PHONY: demo test lint types format bench test-emulator test-conformance test-live clean

demo: $(VENV)/.installed
	$(BIN)/agnes-mcp demo

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev
	$(BIN)/mypy

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.installed-dev
	for bench in bench/*.py; do echo "== $$bench"; $(BIN)/python $$bench || exit 1; done

# The BigQuery suite against a third-party emulator, wherever a Python 3.13 is found.
test-emulator: $(VENV)/.installed-dev
	@$(BIN)/python tests/support/emulator.py tests/stand_in tests/operations; status=$$?; \
	if [ $$status -eq 77 ]; then echo "test-emulator: skipped, there is no Python 3.13"; else exit $$status; fi

# The official conformance suite and the Inspector, as clients that are not ours; npm installs both into .node/.
test-conformance: $(VENV)/.installed-dev
	cd tests && ../$(BIN)/python -m conformance.node
	$(BIN)/python -m pytest tests/conformance

# Against real BigQuery, by hand: make test-live PROJECT=my-project (bills a few MiB)
test-live: $(VENV)/.installed-dev
	AGNES_LIVE_PROJECT=$(PROJECT) $(BIN)/python -m pytest tests/sources/bigquery/live.py

$(VENV)/.created:
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed; name one: make PYTHON=/path/to/python3.12 …"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.installed: $(VENV)/.created pyproject.toml constraints.txt
	$(PIP) install -c constraints.txt -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.created pyproject.toml constraints.txt
	$(PIP) install -c constraints.txt -e '.[dev]'
	touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) build dist *.egg-info
