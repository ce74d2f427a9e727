# Every target installs what it needs, once: a second run starts at once.
PYTHON ?= python3
BIN := .venv/bin
VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' app/__init__.py)
# The container engine's command, and the Dockerfile's target.
CONTAINERS ?= docker
TARGET ?= cpu

.PHONY: serve test test-page test-reliability test-observability \
	check format bench bench-models bench-decode bench-peers bench-scale bench-replicas bench-container bench-cache bench-bulk \
	docs site site-serve lock clean \
	version image image-test package-test test-rolling test-ray audit licences snapshots

serve: .venv/base.stamp
	$(BIN)/python -m app serve $(if $(PORT),--port $(PORT))

test: .venv/dev.stamp
	$(BIN)/python -m pytest --cov --cov-fail-under=90

# The page in Debian's Chromium, which it does not install. PAGE=--readme-picture redraws docs/page.png.
test-page: .venv/dev.stamp
	$(BIN)/python -m pytest -m page tests/page $(PAGE)

# All of the corpus, and what takes minutes; `make test` leaves out what is slow. Loads last a minute
# each. RELIABILITY=--load-seconds=8 is the short form of all of it, in ten minutes; with =600 the soak
# and the containers' loads last as long.
test-reliability: .venv/dev.stamp
	$(BIN)/python -m pytest -m reliability -o faulthandler_timeout=1800 $(RELIABILITY)

# Prometheus itself, on the rules and under load; it is skipped where there is none.
test-observability: .venv/dev.stamp
	$(BIN)/python -m pytest -m observability

check: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/zensical build --strict

format: .venv/dev.stamp
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(BIN)/python:
	$(PYTHON) -m venv .venv

.venv/base.stamp: requirements/base.lock | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	touch $@

# No hashes here: torch's wheel differs by platform and accelerator.
.venv/dev.stamp: requirements/dev.lock | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r $<
	touch $@ .venv/base.stamp

bench: .venv/dev.stamp
	$(BIN)/python -m bench.service $(BENCH)

bench-models: .venv/dev.stamp
	$(BIN)/python -m bench.models

bench-decode: .venv/dev.stamp
	$(BIN)/python -m bench.scaled_decode $(BENCH)

bench-peers: .venv/dev.stamp .venv-peers/stamp
	$(BIN)/python -m bench.peers $(PEERS)

# An environment of their own: what they need is none of the service's business.
.venv-peers/stamp: requirements/peers.txt requirements/dev.lock
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	touch $@

# A rolling update of two replicas behind nginx, under load; needs nginx and wrk.
test-rolling: .venv/dev.stamp
	$(BIN)/python -m pytest -s -m slow tests/deploy/test_rolling_update.py

# Ray in an environment of its own, as above.
test-ray: .venv-ray/stamp
	.venv-ray/bin/python -m bench.ray_serve $(BENCH)

.venv-ray/stamp: requirements/base.lock requirements/ray.txt
	$(PYTHON) -m venv .venv-ray
	.venv-ray/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes \
		-r requirements/base.lock
	.venv-ray/bin/python -m pip install --quiet --disable-pip-version-check -r requirements/ray.txt
	touch $@

bench-scale: .venv/dev.stamp
	$(BIN)/python -m bench.scale $(SCALE)

bench-replicas: .venv/dev.stamp
	$(BIN)/python -m bench.replicas $(BENCH)

bench-container: .venv/dev.stamp
	$(BIN)/python -m bench.container $(BENCH)

bench-cache: .venv/dev.stamp
	$(BIN)/python -m bench.cache $(BENCH)

bench-bulk: .venv/dev.stamp
	$(BIN)/python -m bench.bulk $(BENCH)

version:
	@echo $(VERSION)

# IMAGE="--build-arg BASE=python:3.11-slim-bookworm@sha256:..." pins the base.
image:
	$(CONTAINERS) build --target $(TARGET) --tag mobilenet-serve:$(TARGET) \
		--label org.opencontainers.image.version=$(VERSION) \
		--label org.opencontainers.image.revision=$$(git rev-parse HEAD) $(IMAGE) .

# Five minutes of load in one core and 512 MiB are part of it; RELIABILITY=--load-seconds=10 is short.
image-test: .venv/dev.stamp image
	$(BIN)/hadolint Dockerfile
	$(BIN)/python -m pytest -s -m slow -o faulthandler_timeout=1800 --load-seconds=300 $(RELIABILITY) \
		tests/deploy/test_image.py

# `pip install .` in a clean environment, elsewhere: it serves.
package-test: .venv/dev.stamp
	$(BIN)/python -m pytest -m slow tests/deploy/test_package.py

# What a release is made with, and beside it exactly what the image has.
.venv-release/stamp: requirements/release.lock requirements/base.lock
	$(PYTHON) -m venv .venv-release
	.venv-release/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes \
		-r requirements/release.lock
	$(PYTHON) -m venv --without-pip .venv-release/base
	.venv-release/bin/python -m pip --python .venv-release/base/bin/python install --quiet \
		--disable-pip-version-check --require-hashes -r requirements/base.lock
	touch $@

# Asks PyPI for the advisories of everything that is locked with hashes.
audit: .venv-release/stamp
	.venv-release/bin/pip-audit --strict --disable-pip --require-hashes -r requirements/base.lock
	.venv-release/bin/pip-audit --strict --disable-pip --require-hashes -r requirements/release.lock

# Fails on a licence that asks for more than to be named.
licences: .venv-release/stamp
	{ printf '# Licences\n\nOf what the CPU image adds to its base; written by `make licences`.\n'; \
		printf 'The image for GPUs has libraries of NVIDIA besides, under its own terms.\n\n'; \
		.venv-release/bin/pip-licenses --python .venv-release/base/bin/python --format=markdown \
			--from=mixed --partial-match --fail-on='GPL;AGPL;SSPL'; } > docs/licences.md

# The names that others build upon; look at the difference.
snapshots: .venv/dev.stamp
	WRITE_SNAPSHOTS=1 $(BIN)/python -m pytest -q tests/test_snapshots.py

# The pages that are written from the code.
docs: .venv/base.stamp
	$(BIN)/python -m reference

# All pages as a site, in site/; a link or an anchor that leads nowhere is an error.
site: .venv/dev.stamp
	$(BIN)/zensical build --strict --clean

site-serve: .venv/dev.stamp
	$(BIN)/zensical serve --dev-addr localhost:8001

lock:
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/pip install --quiet uv
	.venv-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --custom-compile-command "make lock" pyproject.toml -o requirements/base.lock
	.venv-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --extra dev \
		--no-emit-index-url --no-emit-package mobilenet-serve --constraint requirements/base.lock \
		--custom-compile-command "make lock" pyproject.toml -o requirements/dev.lock
	.venv-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --custom-compile-command "make lock" --group pyproject.toml:release \
		-o requirements/release.lock
	rm -rf .venv-lock

clean:
	rm -rf .venv .venv-peers .venv-ray .venv-release site .cache .mypy_cache .ruff_cache .pytest_cache \
		.coverage .import_linter_cache
