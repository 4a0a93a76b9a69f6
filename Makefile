# Each target is a few commands that one could type. PYTHON: any Python from 3.11 on.
PYTHON ?= python3
BIN := $(CURDIR)/.venv/bin
export PATH := $(BIN):$(PATH)

.PHONY: all test lint install cluster onnx

all: install
	snakemake --cores 4 all

test: cluster onnx
	pytest --numprocesses 2 --dist loadfile

lint: install
	ruff check
	ruff format --check
	pyright
	snakefmt --check Snakefile workflow/rules
	snakemake --lint

install: .venv/installed

cluster: .venv/cluster

onnx: .venv/onnx

.venv/installed: requirements.lock
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check "uv>=0.13"
	$(BIN)/uv pip sync --quiet --system-certs --compile-bytecode --require-hashes --python $(BIN)/python requirements.lock
	touch $@

# What submits to a scheduler, beside the rest.
.venv/cluster: requirements-cluster.lock .venv/installed
	$(BIN)/uv pip install --quiet --system-certs --compile-bytecode --require-hashes --python $(BIN)/python -r requirements-cluster.lock
	touch $@

# What writes and runs ONNX, beside the rest.
.venv/onnx: requirements-onnx.lock .venv/installed
	$(BIN)/uv pip install --quiet --system-certs --compile-bytecode --require-hashes --python $(BIN)/python -r requirements-onnx.lock
	touch $@
