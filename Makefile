# dentalign: `make` says what there is. Needs Python >= 3.11, git and make; everything else goes into .venv.

PYTHON ?= python3
INSTALLED := .venv/.installed
IN_VENV := PATH="$(CURDIR)/.venv/bin:$$PATH"
# One process per core; a file's tests stay together, as they share fixtures; in the order of tests/conftest.py.
BY_FILE := -n auto --dist loadfile --no-loadscope-reorder
# What test-fast can test: a folder of tests/, or one file beside the folders (check: tests/test_check.py).
ROOMS := $(sort $(filter-out support fuzz,$(notdir $(patsubst %/,%,$(wildcard tests/*/)))) \
	$(patsubst tests/test_%.py,%,$(wildcard tests/test_*.py)))
ROOM_TESTS = $(firstword $(wildcard tests/$(ROOM) tests/test_$(ROOM).py))

.DEFAULT_GOAL := help
.PHONY: help setup a-repository demo repro test test-fast a-room test-all check docs layers shards dist clean

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' $(firstword $(MAKEFILE_LIST)) | while IFS='|' read -r name does; do \
		printf '  make %-9s %s\n' "$$name" "$$does"; done

setup: $(INSTALLED) ## make .venv and install into it; PYTHON=python3.12 chooses the interpreter

# On Linux PyPI's torch brings CUDA along, some gigabytes. Without a GPU this spares them:
#   PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make setup
$(INSTALLED): pyproject.toml constraints.txt
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo 'make: $(PYTHON) is not Python 3.11 or newer; name one that is: make $(or $(MAKECMDGOALS),setup) PYTHON=/path/to/python3.11' >&2; \
		exit 1; }
	@echo 'Installing into .venv, which takes some minutes ...'
	@test -x .venv/bin/python && .venv/bin/python -m pip --version > /dev/null 2>&1 || "$(PYTHON)" -m venv --clear .venv
	@.venv/bin/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

a-repository: # before the minutes that the installation takes
	@test -e .git || git rev-parse --git-dir > /dev/null 2>&1 || { \
		echo 'make: no git repository, which DVC needs (an unpacked ZIP?): run' >&2; \
		echo '  git init && git add --all && git commit -m start' >&2; exit 1; }

demo: a-repository setup ## run the pipeline on the made-up demo clinic and show the metrics
	@$(IN_VENV) dentalign repair
	@$(IN_VENV) dvc repro
	@$(IN_VENV) dentalign metrics
	@echo 'The report is reports/validation/index.html: .venv/bin/dentalign view opens it'

repro: a-repository setup ## run the stages that are stale (`dvc repro` inside .venv), even after a power cut
	@$(IN_VENV) dentalign repair
	@$(IN_VENV) dvc repro

test: setup ## run the tests and show their coverage
	@$(IN_VENV) python -m pytest $(BY_FILE) --cov

test-fast: a-room setup ## run the tests of one room, ROOM=cases, and of the layers and the command; without ROOM list the rooms
	@$(IN_VENV) python -m pytest -q -m 'not slow' $(BY_FILE) $(ROOM_TESTS) tests/pipeline/test_stage_dependencies.py \
		tests/pipeline/test_room_order.py tests/running/test_command.py

a-room:
	@test -n '$(filter $(ROOM),$(ROOMS))' || { echo 'usage: make test-fast ROOM=name, where name is one of: $(ROOMS)' >&2; exit 2; }

# What a test needs beyond .venv is installed here: Playwright, a Chromium where there is none, atheris, Dask, ONNX.
test-all: setup ## run the tests, those that need a browser or a fuzzer included; installs Chromium where apt-get is
	@.venv/bin/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[dev,browser,fuzz,cluster,export,remote,storage]'
	@command -v chromium > /dev/null || command -v chromium-browser > /dev/null || command -v google-chrome > /dev/null || { \
		command -v apt-get > /dev/null || { echo 'make: no Chromium here and no apt-get: the browser tests are skipped' >&2; exit 0; }; \
		apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium || \
			echo 'make: apt-get could not install Chromium: the browser tests are skipped' >&2; }
	@command -v sshd > /dev/null || test -x /usr/sbin/sshd || { \
		command -v apt-get > /dev/null || { echo 'make: no sshd here and no apt-get: the tests over SSH are skipped' >&2; exit 0; }; \
		apt-get update -qq && apt-get install -y -qq --no-install-recommends openssh-server || \
			echo 'make: apt-get could not install sshd: the tests over SSH are skipped' >&2; }
	@$(IN_VENV) DENTALIGN_LONG_TESTS=1 python -m pytest $(BY_FILE) --cov

check: setup ## lint and check types
	@$(IN_VENV) ruff check
	@$(IN_VENV) mypy

docs: setup ## build the docs site into build/site/html, without a warning; installs the generator
	@.venv/bin/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[dev,docs]'
	@$(IN_VENV) python -m tools.site_pages
	@$(IN_VENV) zensical build --strict --clean
	@$(IN_VENV) python -m pytest -q tests/docs/test_docs_site.py tests/docs/test_forge_files.py

layers: setup ## draw docs/pictures/module-layers.svg from the imports
	@$(IN_VENV) python -m tools.module_layers

shards: setup ## write the number of shards, N=16, into params.yaml and dvc.yaml
	@$(IN_VENV) python -m tools.shards "$(N)"

dist: setup ## build the sdist and the wheel into dist/
	@$(IN_VENV) python -m build --no-isolation

clean: ## remove .venv and caches; data, models, reports and DVC's cache stay
	rm -rf .venv .cache .mypy_cache .pytest_cache .ruff_cache .coverage .coverage.* htmlcov build dist
	find dentalign stages tests -name __pycache__ -type d -prune -exec rm -rf {} +
