# Plain `make` lists the targets. Each installs what it needs, once: a second run starts at once.
PYTHON ?= python3
BIN := .venv/bin
PIP := -m pip --quiet --disable-pip-version-check
VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' app/__init__.py)
# The container engine's command.
CONTAINERS ?= docker
# A process a core, each with whole files of tests: what a file serves is started once.
PARALLEL := -q -n auto --maxprocesses 4 --dist loadfile

.PHONY: help serve check test test-all format bench docs site snapshots lock image audit licences version clean

help: ## list the targets
	@awk 'BEGIN { FS = ":.*## " } /^##@/ { print "\n" substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  make %-10s%s\n", $$1, $$2 }' Makefile

##@ Run
serve: .venv/base.stamp ## the service on port 8000, or on PORT
	$(BIN)/python -m app serve $(if $(PORT),--port $(PORT))

##@ Develop
check: .venv/dev.stamp ## ruff, mypy, import-linter, and the links of the documentation
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/zensical build --strict

# A WHAT is a mark of pyproject.toml: tests that take minutes, or need more than Python.
test: .venv/$(if $(filter ray,$(WHAT)),ray,$(if $(WHAT),dev,test)).stamp ## the quick tests; WHAT=page, reliability, observability, image, install, rolling or ray
	$(BIN)/python -m pytest $(if $(WHAT),-s -m $(WHAT) -o faulthandler_timeout=1800,$(PARALLEL)) $(ARGS)

test-all: .venv/dev.stamp ## besides, what takes long or needs torch; with coverage
	$(BIN)/python -m pytest -m "not slow" $(PARALLEL) --cov --cov-fail-under=90 $(ARGS)

format: .venv/dev.stamp ## the code, by ruff
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

snapshots: .venv/dev.stamp ## write the names that others build upon; look at the difference
	WRITE_SNAPSHOTS=1 $(BIN)/python -m pytest -q tests/test_snapshots.py

# Existing pins stay unless pyproject.toml asks for more; ARGS=--upgrade takes the newest.
lock: export UV_CUSTOM_COMPILE_COMMAND = make lock
lock: ## the dependencies of pyproject.toml, in requirements/
	folder=$$(mktemp -d); trap 'rm -r "$$folder"' EXIT; set -e; \
	$(PYTHON) -m venv $$folder; $$folder/bin/python $(PIP) install uv; \
	lock="$$folder/bin/uv pip compile --quiet --universal --python-version 3.11 --no-emit-index-url $(ARGS)"; \
	$$lock --generate-hashes pyproject.toml -o requirements/base.txt; \
	$$lock --constraint requirements/base.txt --all-extras --group dev pyproject.toml -o requirements/dev.txt; \
	$$lock --constraint requirements/dev.txt --extra convert --extra hub --extra otel --group test pyproject.toml -o requirements/test.txt; \
	$$lock --generate-hashes --group release -o requirements/release.txt

##@ Measure
bench: .venv/dev.stamp $(if $(filter peers,$(WHAT)),.venv-peers/stamp) ## speed against the machine's limit; WHAT=models, decode, peers or loadgen; needs wrk
	$(BIN)/python -m bench.$(or $(WHAT),service) $(ARGS)

##@ Document
docs: .venv/base.stamp ## write the pages of docs/ that come from the code
	$(BIN)/python -m reference

site: .venv/dev.stamp ## the documentation as a site, on port 8001
	$(BIN)/zensical serve --dev-addr localhost:8001

##@ Release
# ARGS="--build-arg BASE=python:3.11-slim-bookworm@sha256:..." pins the base.
image: ## the container image, mobilenet-serve:cpu
	$(CONTAINERS) build --tag mobilenet-serve:cpu \
		--label org.opencontainers.image.version=$(VERSION) \
		--label org.opencontainers.image.revision=$$(git rev-parse HEAD) $(ARGS) .

audit: .venv-release/stamp ## ask PyPI for advisories on what is locked with hashes
	.venv-release/bin/pip-audit --strict --disable-pip --require-hashes -r requirements/base.txt
	.venv-release/bin/pip-audit --strict --disable-pip --require-hashes -r requirements/release.txt

licences: .venv-release/stamp ## write docs/licences.md; fails on a licence that asks for more than to be named
	{ printf '# Licences\n\nOf what the CPU image adds to its base; written by `make licences`.\n'; \
		printf 'The image for GPUs has libraries of NVIDIA besides, under its own terms.\n\n'; \
		.venv-release/bin/pip-licenses --python .venv-release/base/bin/python --format=markdown \
			--from=mixed --partial-match --fail-on='GPL;AGPL;SSPL'; } > docs/licences.md

version: ## print it
	@echo $(VERSION)

clean: ## remove the environments and whatever else is made
	rm -rf .venv .venv-peers .venv-release site .cache .mypy_cache .ruff_cache .pytest_cache \
		.coverage .import_linter_cache

$(BIN)/python:
	$(PYTHON) -m venv .venv

.venv/base.stamp: requirements/base.txt | $(BIN)/python
	$(BIN)/python $(PIP) install --require-hashes -r $<
	touch $@

.venv/test.stamp: requirements/test.txt | $(BIN)/python
	$(BIN)/python $(PIP) install -r $<
	touch $@ .venv/base.stamp

# No hashes here: torch's wheel differs by platform and accelerator.
.venv/dev.stamp: requirements/dev.txt | $(BIN)/python
	$(BIN)/python $(PIP) install -r $<
	touch $@ .venv/test.stamp .venv/base.stamp

.venv/ray.stamp: requirements/ray.txt .venv/dev.stamp
	$(BIN)/python $(PIP) install --constraint requirements/dev.txt -r $<
	touch $@

# Apart, because the peers and what the service is tested with do not go together.
.venv-peers/stamp: requirements/peers.txt
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python $(PIP) install -r $<
	touch $@

# What a release is made with, and beside it exactly what the image has.
.venv-release/stamp: requirements/release.txt requirements/base.txt
	$(PYTHON) -m venv .venv-release
	.venv-release/bin/python $(PIP) install --require-hashes -r requirements/release.txt
	$(PYTHON) -m venv --without-pip .venv-release/base
	.venv-release/bin/python -m pip --python .venv-release/base/bin/python install --quiet \
		--disable-pip-version-check --require-hashes -r requirements/base.txt
	touch $@
