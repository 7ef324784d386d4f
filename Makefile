# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Needs Python 3.11 or newer with its venv module, make, and the package registries. `make help` lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
# The targets share one virtual environment, one set of servers and two cores.
.NOTPARALLEL:

# The first Python that is new enough and can make virtual environments.
PYTHON ?= $(firstword $(foreach python,python3 python3.13 python3.12 python3.11,$(shell \
	$(python) -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(python))))

# ansible accepts no locale but a UTF-8 one.
export LC_ALL := C.UTF-8

# How tools are started: with the collection in reach, and a HOME that holds nothing stale and keeps yours clean.
RUN := HOME="$(CURDIR)/.cache/home" PATH="$(CURDIR)/.venv/bin:$$PATH" \
	PYTHONPATH="$(CURDIR)/.venv/collections" ANSIBLE_COLLECTIONS_PATH="$(CURDIR)/.venv/collections"
# Several tests at once, each with servers of its own.
PYTEST := $(RUN) pytest -n auto --maxprocesses 4 --dist worksteal

.PHONY: help quickstart test lint types format unit integration versions thorough matrix bench fault sanity docs build clean

help:  ## Show this list
	@sed -n 's/^\([a-z]*\):.*##/\1/p' Makefile | while read -r target text; do printf '%-12s %s\n' "$$target" "$$text"; done

quickstart: .venv/run  ## See it work: servers, stores, bootstrap, proof; half a minute once all is installed
	@$(RUN) python -m tests.quickstart

test: lint  ## Lint, unit and integration tests on the default PostgreSQL versions
	@$(PYTEST) tests/unit tests/integration

lint: types  ## All that reads the sources without running them
	@$(RUN) ruff check .
	@$(RUN) ruff format --check .
	@$(RUN) yamllint --strict .
	@$(RUN) ansible-lint
	@$(RUN) antsibull-changelog lint
	@$(RUN) reuse lint --quiet || { $(RUN) reuse lint; exit 1; }

types: .venv/check  ## Types of the plugins and of the test rig
	@$(RUN) mypy

format: .venv/check  ## Lay out the Python files as `lint` wants them
	@$(RUN) ruff check --select I --fix .
	@$(RUN) ruff format .

unit: .venv/run  ## Tests without a server
	@$(PYTEST) tests/unit

integration: .venv/run  ## Tests with servers of the default PostgreSQL versions
	@$(PYTEST) tests/integration

# The faults are tried on the default versions by `make test`.
EFFECTS := tests/integration/test_bootstrap_*.py tests/integration/test_engine.py tests/integration/test_properties*.py \
	tests/integration/test_access_effects.py tests/integration/test_access_readers.py

# The two that say most, for CI: what people can do, and what the connector can give.
versions: .venv/run  ## Effects with one server of each PostgreSQL version that `test` leaves out
	@$(PYTEST) --others tests/integration/test_access_effects.py tests/integration/test_bootstrap_coverage.py

thorough: .venv/run  ## What `test` leaves out because it takes minutes
	@$(PYTEST) --thorough -m thorough tests/integration

matrix: .venv/run  ## Effects and properties with servers of all PostgreSQL versions, shapes and engines
	@$(PYTEST) --matrix $(EFFECTS)

bench: .venv/run  ## Measure speed
	@$(RUN) python -m tests.bench

fault: .venv/run  ## Kill runs at any moment, some 2000 times
	@$(RUN) python -m tests.fault $(if $(COUNT),--count $(COUNT)) $(if $(ONLY),--only $(ONLY))

sanity: .venv/run  ## ansible-test sanity
	@$(RUN) tests/tools/sanity

docs: .venv/check  ## Check the documentation of plugins, roles and guides
	@$(RUN) antsibull-docs lint-collection-docs --plugin-docs --validate-collection-refs=all \
		--disallow-unknown-collection-refs .

build: .venv/run  ## Build the collection's tarball in dist/
	@$(RUN) ansible-galaxy collection build --force --output-path dist

clean:  ## Remove all that was built, downloaded or left behind here
	rm -rf .venv .cache .ansible dist tests/output importer_result.json changelogs/.plugin-cache.yaml
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Two stamps, so that `quickstart` need not wait for the linters. A changed list is installed on top.
.venv/run: tests/requirements/run.txt
	@test -n "$(PYTHON)" || { echo 'No Python 3.11 or newer with its venv module found; name one: make PYTHON=…' >&2; exit 1; }
	@echo 'Installing what it needs into .venv; a minute or two.'
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@mkdir -p .venv/collections/ansible_collections/latchkey
	@ln -sfn ../../../.. .venv/collections/ansible_collections/latchkey/postgres
	@# The private HOME keeps your registries: pip and npm find their settings where they look for them.
	@mkdir -p .cache/home/.config
	@for file in .npmrc .pip .config/pip; do \
		if [ -e "$${HOME:-/nonexistent}/$$file" ] && ! [ "$$HOME" -ef .cache/home ]; then ln -sfn "$$HOME/$$file" ".cache/home/$$file"; fi; \
	done
	@touch $@

.venv/check: tests/requirements/check.txt .venv/run
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@
