# One door. Every target sets up what it needs in .venv, from nothing but Python 3.11.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
READY := .venv/.ready
WORKERS ?= 2

.PHONY: demo docs test test-long lint format bench setup hashes clean
.DEFAULT_GOAL := help

help:
	@echo "make demo       the whole way once on a synthetic tree of life; ends with a report page"
	@echo "make test       the test suite (7 to 13 minutes on 2 cores)"
	@echo "make test-long  kill tests, clusters, load, every kernel of this processor"
	@echo "make docs       the site, in build/site"
	@echo "make lint       ruff and strict mypy"
	@echo "make hashes     constraints.sha256.txt, for pip install --require-hashes"
	@echo "make bench      speed and memory against peers"

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Linnaea needs Python 3.11 or later; set PYTHON=/path/to/python3.11"; exit 1; }
	@echo "setting up .venv (about two minutes)"
	"$(PYTHON)" -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(READY)

demo: $(READY)
	$(BIN)/linnaea demo --output runs/demo

docs: $(READY)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "build/site/index.html"

hashes: $(READY)
	$(BIN)/pip install --quiet --dry-run --ignore-installed --report .venv/report.json -c constraints.txt '.[serve]'
	$(BIN)/python docs/make_hashes.py .venv/report.json > constraints.sha256.txt

test: $(READY)
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not long"

test-long: $(READY)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[notebooks]'
	$(BIN)/python -m pytest -m long

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)
	for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

clean:
	rm -rf .venv runs build dist .mypy_cache .ruff_cache .pytest_cache
