# Every target does its own set-up: an environment in .venv, and a cache outside the checkout
# (DATALAYER_CACHE, by default ~/.cache/datalayer) for what is built or fetched once per version.
PYTHON ?= python3.11
VENV := .venv/bin/python

.DEFAULT_GOAL := help
.PHONY: help setup lock demo services services-down cluster cluster-down test test-fast test-nightly lint typecheck imports bench-quick bench bench-full schemas clean

help: ## this list
	@echo 'make TARGET, where TARGET is one of:'
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  %-14s %s\n", $$1, $$2 }'
	@echo 'PYTHON=… names the interpreter (3.11), DATALAYER_CACHE=… the folder for tools and jars.'

setup: ## the environment in .venv, from the hashed lock (first time: a few minutes)
	@command -v $(PYTHON) >/dev/null || { echo 'make: $(PYTHON) is missing: apt-get install python3.11 python3-pip, or name one with PYTHON=…' >&2; exit 1; }
	@$(PYTHON) scripts/setup.py

lock: setup ## resolve requirements/*.txt anew from pyproject.toml
	@$(PYTHON) scripts/setup.py --lock

demo: setup ## an Airflow DAG on real data, under four storage designs, and a table (HOT=alluxio: with a real Alluxio)
	@$(VENV) scripts/prepare.py jars $(if $(filter alluxio,$(HOT)),alluxio alluxio-client)
	@$(VENV) -m examples.flights $(if $(HOT),--hot $(HOT))

services: setup ## an S3 server and Alluxio on loopback, in the background, and a configuration that uses them (HOST=198.18.0.1: for the pods of make cluster)
	@$(VENV) scripts/prepare.py versitygw alluxio
	@$(VENV) scripts/services.py up $(if $(HOST),--host $(HOST))

services-down: setup ## end what `make services` has started, and nothing else
	@$(VENV) scripts/services.py down

cluster: setup ## a single-node Kubernetes on this machine, in the background, with our images (as root; first time: half an hour)
	@$(VENV) scripts/cluster.py up

cluster-down: setup ## end what `make cluster` has started, and remove all that it made
	@$(VENV) scripts/cluster.py down

test: setup ## everything `.ci/run` checks, quick stages first (about an hour; from nothing longer, within 75 minutes)
	@$(VENV) scripts/stages.py

test-fast: setup ## what needs no server: the unit tests and the documentation's examples
	@$(VENV) scripts/stages.py unit docs

test-nightly: setup ## the races, crashes and fuzzing of `make test` at their full sizes (hours)
	@$(VENV) scripts/prepare.py
	@$(VENV) -m pytest -m nightly --hypothesis-profile=nightly --timeout=0

schemas: setup ## write the published JSON Schemas anew, after a wire form was changed
	@$(VENV) scripts/schemas.py

lint: setup ## ruff: rules and format
	@$(VENV) scripts/stages.py lint format

typecheck: setup ## mypy --strict
	@$(VENV) scripts/stages.py typecheck

imports: setup ## the import contracts: which package may know which
	@$(VENV) scripts/stages.py imports

bench-quick: setup ## compare storage designs and rivals: a first look, 4 minutes (report in build/benchmarks; goes on where it was interrupted)
	@$(VENV) scripts/prepare.py versitygw alluxio alluxio-client jars
	@$(VENV) -m benchmarks run --scale quick --resume

bench: setup ## the same at 1/8 of the goals' sizes, 25 minutes
	@$(VENV) scripts/prepare.py versitygw alluxio alluxio-client jars
	@$(VENV) -m benchmarks run --scale bench --resume

bench-full: setup ## the same at the goals' sizes: hours
	@$(VENV) scripts/prepare.py versitygw alluxio alluxio-client jars
	@$(VENV) -m benchmarks run --scale full --resume

clean: ## remove what the targets made in the checkout; the cache outside it stays
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
