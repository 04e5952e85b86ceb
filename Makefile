# The same few commands by hand and in CI. Two of them are all that a fresh machine needs: make demo, make test.
SHELL := /bin/sh
# What is compiled is kept, whatever the shell says: a suite starts hundreds of processes.
unexport PYTHONDONTWRITEBYTECODE
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not ((3, 11) <= sys.version_info < (3, 15)))' 2>/dev/null && echo $$p && break; done)
PYTEST := $(BIN)/python -m pytest
# One process more than processors, up to four, as tests wait for servers, deadlines and kills; a file's tests in one of
# them, so that what they share is made once; and in the order that tests/conftest.py gives, the longest files first.
PROCESSES = "$$($(BIN)/python -c 'import os; print(min(4, 1 + (os.cpu_count() or 1)))')"
SPREAD = -n $(PROCESSES) --dist loadfile --no-loadscope-reorder

.PHONY: demo check quick test soak services docs lint types format bench bench-small test-emulator test-extension test-extension-sqlite test-duckdb2 test-conformance test-live clean

demo: $(VENV)/.installed
	$(BIN)/agnes-mcp demo

# Before every commit: a minute. Lint, types and the quick tests at once.
check: $(VENV)/.installed-dev
	@$(MAKE) --no-print-directory -j2 lint types quick

quick: $(VENV)/.installed-dev
	$(PYTEST) -q $(SPREAD) -m "not slow and not soak" $(ARGS)

# Everything, fuzz, kills and races a few times with fixed seeds: make test ARGS="tests/sql -k like"; ARGS="-n 0 …": in one process
test: $(VENV)/.installed-dev
	$(PYTEST) $(SPREAD) $(ARGS)

# Fuzz, kills and races as often as it takes, and what they tried: before a release, and when what they cover changes.
soak: $(VENV)/.installed-dev
	AGNES_TEST_SOAK=1 $(PYTEST) $(SPREAD) -m soak $(ARGS)

# What tests need from outside Python (a browser, nginx, PostgreSQL, npm's tools), where it is missing.
services: $(VENV)/.installed-dev
	@cd tests && ../$(BIN)/python -m support.services

# The documentation as a site, in build/site; a link that leads nowhere is an error.
docs: $(VENV)/.installed-dev
	$(BIN)/python docs/generate.py --check
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev
	$(BIN)/mypy

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Every ratio against its named alternative, on a machine that does nothing else; then docs/generate.py writes the page.
bench: $(VENV)/.installed-dev
	$(BIN)/python bench/run.py --json bench/results.json $(ARGS)
	$(BIN)/python docs/generate.py

# The smallest setting of each: that it works, and that its figures are there.
bench-small: $(VENV)/.installed-dev
	$(BIN)/python bench/run.py --small $(ARGS)

# The BigQuery suite against a third-party emulator, wherever a Python 3.13 is found.
test-emulator: $(VENV)/.installed-dev
	@$(BIN)/python tests/support/emulator.py tests/stand_in tests/operations; status=$$?; \
	if [ $$status -eq 77 ]; then echo "test-emulator: skipped, there is no Python 3.13"; else exit $$status; fi

# The attached process with a real file of DuckDB's bigquery extension: make test-extension AGNES_BIGQUERY_EXTENSION=/path
test-extension: $(VENV)/.installed-dev
	@if [ -z "$(AGNES_BIGQUERY_EXTENSION)" ]; then \
	echo "test-extension: SKIPPED, AGNES_BIGQUERY_EXTENSION names no file of the extension"; else \
	AGNES_TEST_EXTENSION="$(AGNES_BIGQUERY_EXTENSION)" $(PYTEST) tests/sources/bigquery/extension.py; fi

# A table behind another extension, really attached: SQLite's, from its package, in the DuckDB that it was built for
test-extension-sqlite: $(VENV)/.installed-dev
	$(VENV)/bin/python -m pip install -q --no-deps --upgrade --target $(VENV)/extension-duckdb \
	duckdb==1.5.5 duckdb-extension-sqlite-scanner==1.5.5
	AGNES_TEST_DUCKDB=$(abspath $(VENV)/extension-duckdb) $(PYTEST) tests/sources/extensions -k real_extension

# What faces DuckDB, under the newer line of it: the virtual environment above with that DuckDB before its own.
DUCKDB2 := 2.0.1
VENV2 := .venv-duckdb2
FACING := tests/workbench tests/sql/test_duckdb_lines.py tests/sql/test_instance.py tests/sql/test_views.py \
	tests/sql/test_stored_views.py tests/sql/test_duckdb_errors.py tests/sql/test_cells.py tests/sql/test_cost.py \
	tests/sql/test_predicate_exists.py tests/sql/test_predicate_skeleton.py tests/sql/test_predicate_properties.py \
	tests/sql/test_statement.py tests/sources/local tests/sources/test_warehouse.py tests/snapshots/test_store.py \
	tests/snapshots/test_readers.py tests/snapshots/test_writing.py tests/extracts tests/operations/test_scan.py \
	tests/operations/test_query_types.py tests/operations/test_lists.py tests/operations/test_cells.py \
	tests/operations/test_type_names.py

test-duckdb2: $(VENV2)/.installed
	$(VENV2)/bin/python -m pytest -q $(SPREAD) $(FACING) $(ARGS)

$(VENV2)/.installed: $(VENV)/.installed-dev
	@echo "Making $(VENV2) with DuckDB $(DUCKDB2)."
	@rm -rf $(VENV2) && $(BIN)/python -m venv --without-pip $(VENV2)
	@$(BIN)/python -m pip --disable-pip-version-check --python $(VENV2)/bin/python install -q --no-deps duckdb==$(DUCKDB2)
	@$(BIN)/python -c "import sysconfig; print('import site; site.addsitedir(%r)' % sysconfig.get_path('purelib'))" \
	> "$$($(VENV2)/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/beside.pth"
	@touch $@

# The official conformance suite and the Inspector, as clients that are not ours; make test runs them too.
test-conformance: services
	$(PYTEST) tests/conformance

# Against real BigQuery, by hand: make test-live PROJECT=my-project (bills a few MiB)
test-live: $(VENV)/.installed-dev
	AGNES_LIVE_PROJECT=$(PROJECT) $(PYTEST) tests/sources/bigquery/live.py

$(VENV)/.created:
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12, 3.13 or 3.14 is needed; name one: make PYTHON=/path/to/python3.12 …"; exit 1; }
	@echo "Making $(VENV) with $(PYTHON)."
	@$(PYTHON) -m venv $(VENV)
	@touch $@

# Packages are named as they come, so that nobody looks at a silent screen; pip's complaints are shown as they are.
define install
	@echo "Installing $(1) into $(VENV), once: a minute or two."
	@{ $(BIN)/python -m pip --disable-pip-version-check --no-color install --progress-bar off -c constraints.txt -e '$(2)'; \
	echo $$? > $(VENV)/.status; } | awk '/^ *(Collecting|Successfully installed)/ { print "  " substr($$0, 1, 100); fflush() }'; \
	exit $$(cat $(VENV)/.status)
endef

$(VENV)/.installed: $(VENV)/.created pyproject.toml constraints.txt
	$(call install,agnes-mcp and what it needs,.)
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.created pyproject.toml constraints.txt
	$(call install,agnes-mcp and what its tests need,.[dev])
	@touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) build dist *.egg-info
