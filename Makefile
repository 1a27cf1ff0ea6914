# PaDiM-ACE, reproduced. `make help` lists the targets.
#
#   make book                       the demo profile (simulated images), in about ten minutes from nothing
#   make book PROFILE=paper PADIM_ACE_DATA=<folder> PADIM_ACE_WEIGHTS=<folder>
#
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PROFILE ?= demo
PYTHON ?= python3
VENV ?= .venv
CORES ?= $(shell getconf _NPROCESSORS_ONLN)
SNAKEMAKE_FLAGS ?=
PYTEST_FLAGS ?= -n 2 --dist loadfile

BIN := $(VENV)/bin
ENVIRONMENT := $(VENV)/.padim-ace
RIVALS := build/$(PROFILE)/rivals
BOOK := book/_build/html/index.html
SNAKEMAKE = $(BIN)/snakemake --configfile config/$(PROFILE).yaml --cores $(CORES) \
	--rerun-incomplete --quiet rules host $(addprefix --prioritize ,$(LONGEST_$(PROFILE))) $(SNAKEMAKE_FLAGS)
# What takes longest starts first, and all else runs beside it.
LONGEST_paper := build/paper/score/mstar-resnet18/scores.csv

# Jobs run from other folders than this one, so relative paths are made absolute here.
ifneq ($(strip $(PADIM_ACE_DATA)),)
override PADIM_ACE_DATA := $(abspath $(PADIM_ACE_DATA))
export PADIM_ACE_DATA
endif
ifneq ($(strip $(PADIM_ACE_WEIGHTS)),)
override PADIM_ACE_WEIGHTS := $(abspath $(PADIM_ACE_WEIGHTS))
export PADIM_ACE_WEIGHTS
endif
export PATH := $(abspath $(BIN)):$(PATH)
export JUPYTER_PREFER_ENV_PATH := 1
export PYTHONWARNINGS ?= ignore::FutureWarning
export MPLBACKEND := agg

.PHONY: help
help:  ## show this list
	@echo "PROFILE=demo|paper  PADIM_ACE_DATA=<folder>  PADIM_ACE_WEIGHTS=<folder>  CORES=$(CORES)  PYTHON=$(PYTHON)"
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk 'BEGIN {FS = ":.*## "} {printf "  make %-15s %s\n", $$1, $$2}'

.PHONY: env
env: $(ENVIRONMENT)  ## make the environment .venv from pyproject.toml and constraints.txt

$(ENVIRONMENT): pyproject.toml constraints.txt
	@if [ ! -x $(BIN)/python ]; then \
	  $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "$(PYTHON): expected Python 3.11 or newer, found $$($(PYTHON) --version); set PYTHON=<path>" >&2; exit 1; }; \
	  $(PYTHON) -m venv $(VENV); \
	fi
	@set -o pipefail; $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[all]' \
	  | { grep -v 'already satisfied' || true; }
	@touch $@

.PHONY: book
book: $(ENVIRONMENT)  ## run PROFILE end to end and build the book to book/_build/html
	$(SNAKEMAKE)
	@echo "the book: $(abspath $(BOOK))"

.PHONY: rivals
rivals: $(ENVIRONMENT)  ## fit anomalib's detectors that take hours, and put their numbers beside the others of PROFILE
	$(SNAKEMAKE) $(RIVALS)/scores.csv
	cp $(RIVALS)/scores.csv results/$(PROFILE)/rivals.csv
	cp $(RIVALS)/provenance.json results/$(PROFILE)/rivals.json

.PHONY: page
page: $(ENVIRONMENT)  ## make one page of PROFILE alone: make page PAGE=table_1
	$(SNAKEMAKE) --forcerun $(if $(PAGE),,$(error PAGE: expected a page such as table_1, found none)) build/$(PROFILE)/notebooks/$(PAGE).ipynb

.PHONY: unlock
unlock: $(ENVIRONMENT)  ## after a run that was killed: let the next one start (it goes on where that one stopped)
	$(SNAKEMAKE) --unlock

.PHONY: test
test: $(ENVIRONMENT)  ## run the tests (those on real data need PADIM_ACE_DATA and PADIM_ACE_WEIGHTS)
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest $(PYTEST_FLAGS)

.PHONY: lint
lint: $(ENVIRONMENT)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/mypy

.PHONY: drift
drift: $(ENVIRONMENT)  ## compare the last run of PROFILE with the results committed for it
	@$(BIN)/python scripts/drift.py $(PROFILE)

.PHONY: times
times: $(ENVIRONMENT)  ## the time and memory of each notebook of the last run of PROFILE
	@$(BIN)/python scripts/book.py times $(PROFILE)

.PHONY: pdf
pdf: book  ## the book as two PDFs, book/_build/padim-ace{,-appendix}.pdf (needs a Chromium)
	$(BIN)/python scripts/book.py pdf $(PROFILE)

.PHONY: links
links: book  ## check every link of the book that leads outside (needs a network)
	$(BIN)/python scripts/book.py links $(PROFILE)

.PHONY: bench
bench: $(ENVIRONMENT)  ## time the detector against anomalib's PaDiM and the bare backbone
	$(BIN)/python bench/detector.py

.PHONY: lock
lock: $(ENVIRONMENT)  ## write constraints.txt from what .venv holds
	@{ grep '^#' constraints.txt; $(BIN)/python -m pip list --format=freeze --exclude padim-ace --exclude pip 2>/dev/null; } > .lock
	@mv .lock constraints.txt

.PHONY: clean
clean:  ## remove what a run makes (build/, the book), keep .venv and results/
	rm -rf build book/_build .snakemake
