# Two commands do all the set-up: `make run` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
ENV ?=
LISTS ?= build
KEDRO := $(BIN)/kedro
comma := ,

.DEFAULT_GOAL := help
.PHONY: help install run example segment box test lint format types bench docs viz lock sbom clean

help: ## Show the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 12

install: $(INSTALLED) ## Make the virtual environment from the lock file

$(INSTALLED): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"temshift needs Python 3.11 or newer, found {v.major}.{v.minor}: call make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "uv>=0.5"
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	touch $@

run: $(INSTALLED) ## Run the default study (ENV=published or ENV=mine for others) and say where the report is
	$(KEDRO) run $(if $(ENV),--env $(ENV))
	@echo "The report is at: $$($(BIN)/python -m temshift.where $(if $(ENV),--env $(ENV)))"

example: $(INSTALLED) ## Write simulated micrographs into data/example, or with LABELLED=yes a study's into data/01_raw/gold
	$(BIN)/python -m temshift.example $(if $(LABELLED),data/01_raw/gold --labelled,data/example)

segment: $(INSTALLED) ## Segment new micrographs (INPUT=file or folder, MASKS= made elsewhere, ENV= as for run)
	@test -n "$(INPUT)" || { echo "Say what to segment: make segment INPUT=path/to/folder"; exit 2; }
	$(KEDRO) run $(if $(ENV),--env $(ENV)) --pipelines deployment --params "deployment.input=$(INPUT)$(if $(MASKS),$(comma)deployment.masks=$(MASKS))"
	@echo "The page is micrographs.html in 08_reporting/deployment/new_micrographs of the data"

box: $(INSTALLED) ## Remake the network that comes with the package (40 minutes on two busy cores)
	$(KEDRO) run --env box --pipelines box

test: $(INSTALLED) ## Run the tests
	$(BIN)/python -m pytest -n 2 --dist loadfile $(PYTEST_ARGS)

lint: $(INSTALLED) ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED) ## Mend style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(INSTALLED) ## Run the CPU benchmarks; writes docs/performance.md
	$(BIN)/python benchmarks/run_all.py

docs: $(INSTALLED) ## Build the documentation into site/, checking its links
	$(BIN)/mkdocs build --strict --quiet

viz: $(INSTALLED) ## Open the graph in Kedro-Viz
	$(KEDRO) viz run

lock: ## Renew the lock file from pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --extra dev --no-header --no-annotate --output-file requirements.lock pyproject.toml

sbom: $(INSTALLED) ## List all packages (CycloneDX) and the licences of those installed, into build/ (or LISTS=)
	mkdir -p "$(LISTS)"
	$(BIN)/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible --output-file "$(LISTS)/sbom.cdx.json" requirements.lock
	$(BIN)/pip-licenses --python $(BIN)/python --with-system --with-urls --format markdown --output-file "$(LISTS)/licences.md"

clean: ## Remove what runs have made (not raw data)
	rm -rf data/0[2-8]_*/* data/.provenance
