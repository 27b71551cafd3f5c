# Everything that a user or an engineer types. Installs what it needs; `make help` lists it.
PYTHON ?= python3
BIN := .venv/bin
ARCH ?= x86_64
PIP_FLAGS := --quiet --disable-pip-version-check
UV_COMPILE = $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-annotate --python-version 3.11
export SAM_CLI_TELEMETRY := 0

.DEFAULT_GOAL := help
.PHONY: help demo up down test test-torch test-convert test-sam-local test-jobs test-clients check bench bench-data bench-serve bench-train bench-quality build lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: .venv/run.stamp ## Train real digits on the embedded cloud, then predict with them
	@$(BIN)/shoal demo

up: .venv/run.stamp ## Start the embedded cloud in the background
	@$(BIN)/shoal up -d

down: .venv/run.stamp ## Stop the embedded cloud; data stays
	@$(BIN)/shoal down

test: .venv/dev.stamp .venv-sam/stamp ## Run all default tests
	$(BIN)/python -m pytest -q -n auto --dist loadfile --no-loadscope-reorder tests/infrastructure tests/unit
	$(BIN)/python -m pytest -q -n 2 --dist loadfile tests/integration tests/e2e

test-torch: .venv-torch/stamp ## Compare gradients and training steps with PyTorch
	.venv-torch/bin/python -m pytest -q tests/torch

test-convert: .venv/dev.stamp ## Convert models of every framework, with the real converters (gigabytes)
	SHOAL_CACHE=$(CURDIR)/.venv-convert $(BIN)/python -m pytest -q tests/convert

test-jobs: .venv-torch/stamp ## Train by SageMaker jobs of the embedded cloud, with PyTorch
	.venv-torch/bin/python -m pytest -q tests/jobs

test-clients: .venv/dev.stamp .venv-serve-mlserver/stamp ## Ask the served protocol with MLServer's client
	$(BIN)/python -m pytest -q tests/clients

test-sam-local: .venv/dev.stamp .venv-sam/stamp ## Run the main functions by `sam local invoke` in a container
	$(BIN)/python -m pytest -q -s tests/sam_local

check: .venv/dev.stamp .venv-sam/stamp ## Lint, types, template, state machines
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/cfn-lint template.yaml
	$(BIN)/python -m tests.support.lint_state_machines
	AWS_DEFAULT_REGION=us-east-1 .venv-sam/bin/sam validate --lint

bench: .venv/dev.stamp ## Measure: upload to prediction, predict overhead, cold start
	$(BIN)/python -m benchmarks.main_job
	@echo "The data path beside its peers: make bench-data"

bench-data: .venv/dev.stamp .venv-bench/stamp ## Measure: raw data to shards to batches, beside litdata, MDS, polars and others
	$(BIN)/python -m benchmarks.data

bench-serve: .venv/dev.stamp .venv-serve-fastapi/stamp .venv-serve-bentoml/stamp .venv-serve-mlserver/stamp ## Measure: serving, beside FastAPI, BentoML and MLServer
	$(BIN)/python -m benchmarks.serve

bench-train: .venv-torch/stamp .venv-bench/stamp ## Measure: training beside PyTorch: steps, data, start, workers (hours; ARGS=--quick: minutes)
	.venv-torch/bin/python -m benchmarks.train $(ARGS)

bench-quality: .venv/dev.stamp .venv-bench/stamp .venv-torch/stamp ## Measure: how good models are, beside references (hours, goes on where it stopped; ARGS=--quick: minutes)
	$(BIN)/python -m benchmarks.quality $(ARGS)

build: .venv-sam/stamp ## Build functions and layers for AWS (ARCH=x86_64 or arm64)
	ARCHITECTURE=$(ARCH) .venv-sam/bin/sam build --parameter-overrides Architecture=$(ARCH)

lock: .venv/dev.stamp ## Pin the newest allowed versions of all dependencies
	$(BIN)/python -m pip install $(PIP_FLAGS) uv
	$(UV_COMPILE) --upgrade pyproject.toml requirements/build.in -o requirements/run.txt
	$(UV_COMPILE) --upgrade pyproject.toml requirements/build.in --extra dev -c requirements/run.txt -o requirements/dev.txt
	for name in caffe pytorch tensorflow trees; do \
	  $(UV_COMPILE) --upgrade src/shoal/convert/locks/$$name.in -o src/shoal/convert/locks/$$name.txt || exit 1; done

clean: ## Stop the embedded cloud and delete everything that was made
	@if [ -x $(BIN)/shoal ]; then $(BIN)/shoal down; fi
	rm -rf .venv .venv-sam .venv-torch .venv-bench .venv-convert .shoal .aws-sam .pytest_cache .mypy_cache .ruff_cache .hypothesis benchmarks/out benchmarks/cache

.venv/run.stamp: requirements/run.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Shoal needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	@echo "Installing what running needs into .venv (once, under a minute)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install $(PIP_FLAGS) --no-deps --require-hashes -r requirements/run.txt
	@$(BIN)/python -m pip install $(PIP_FLAGS) --no-deps --no-build-isolation -e .
	@touch $@

.venv/dev.stamp: .venv/run.stamp requirements/dev.txt
	@echo "Installing development tools into .venv (once)"
	@$(BIN)/python -m pip install $(PIP_FLAGS) --no-deps --require-hashes -r requirements/dev.txt
	@touch $@

# aws-sam-cli pins boto3, click and more: it lives apart.
.venv-sam/stamp: requirements/sam.txt
	@echo "Installing aws-sam-cli into .venv-sam (once)"
	@$(PYTHON) -m venv .venv-sam
	@.venv-sam/bin/python -m pip install $(PIP_FLAGS) --no-deps --require-hashes -r requirements/sam.txt
	@touch $@

# PyTorch is hundreds of megabytes: only the comparison with it needs it. Not hashed: its builds differ by machine.
.venv-torch/stamp: requirements/dev.txt requirements/torch.txt
	@echo "Installing PyTorch into .venv-torch (once)"
	@$(PYTHON) -m venv .venv-torch
	@.venv-torch/bin/python -m pip install $(PIP_FLAGS) --no-deps --require-hashes -r requirements/dev.txt
	@.venv-torch/bin/python -m pip install $(PIP_FLAGS) -r requirements/torch.txt
	@.venv-torch/bin/python -m pip install $(PIP_FLAGS) --no-deps --no-build-isolation -e .
	@touch $@

# What users would have without Shoal; only make bench-data runs it. Not hashed, as PyTorch isn't.
.venv-bench/stamp: requirements/bench.txt
	@echo "Installing the peers of make bench-data into .venv-bench (once, minutes)"
	@$(PYTHON) -m venv .venv-bench
	@.venv-bench/bin/python -m pip install $(PIP_FLAGS) -r requirements/bench.txt
	@touch $@

# Peers of make bench-serve: each pins versions of its own, so each lives apart.
.venv-serve-%/stamp: requirements/serve-%.txt
	@echo "Installing $* into .venv-serve-$* (once)"
	@$(PYTHON) -m venv .venv-serve-$*
	@.venv-serve-$*/bin/python -m pip install $(PIP_FLAGS) -r $<
	@touch $@
