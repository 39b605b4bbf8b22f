# Every target does its own set-up: an environment in .venv, and a cache outside the checkout
# (DATALAYER_CACHE, by default ~/.cache/datalayer) for what is built or fetched once per version.
PYTHON ?= python3.11
VENV := .venv/bin/python

.DEFAULT_GOAL := help
.PHONY: help setup lock demo test test-fast test-nightly lint typecheck imports bench clean

help: ## this list
	@echo 'make TARGET, where TARGET is one of:'
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  %-14s %s\n", $$1, $$2 }'
	@echo 'PYTHON=… names the interpreter (3.11), DATALAYER_CACHE=… the folder for tools and jars.'

setup: ## the environment in .venv, from the hashed lock (first time: a few minutes)
	@command -v $(PYTHON) >/dev/null || { echo 'make: $(PYTHON) is missing: apt-get install python3.11 python3-pip, or name one with PYTHON=…' >&2; exit 1; }
	@$(PYTHON) scripts/setup.py

lock: setup ## resolve requirements/*.txt anew from pyproject.toml
	@$(PYTHON) scripts/setup.py --lock
