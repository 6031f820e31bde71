# Two commands on a fresh machine (Debian, Python 3.11 to 3.14 with venv, make): `make run` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
ARGS ?=

.PHONY: help setup demo run ui test test-fast lint audit format reference docs env requirements clean
help:
	@echo "make demo    set up, then the whole system with live traffic, attacks and a tour; Ctrl+C ends it"
	@echo "make run     set up, then 100,000 synthetic transactions -> champion model"
	@echo "make ui      the Dagster UI over the same instance, on http://127.0.0.1:3000"
	@echo "make test-fast  set up, then the tests of a few minutes: no server, browser or chaos; while you work"
	@echo "make test    set up, then every test; before a change lands"
	@echo "make lint    ruff, mypy, Dagster's definitions, and the linters of shell scripts, image and workflow"
	@echo "make audit   locked versions against known holes"
	@echo "make docs    the docs site into build/site"
	@echo "make env     for docker-compose.yml: secrets into .env, choices into settings.env; what is there stays"
	@echo "make setup   only the virtual environment"

setup: $(INSTALLED)

$(INSTALLED): requirements.txt pyproject.toml
	@$(PYTHON) deploy/check_python.py
	@echo "Installing about 300 packages (3 GB on disk) into $(VENV), once. pip prints nothing for some minutes."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: setup
	$(BIN)/fraud-detect demo $(ARGS)

run: setup
	$(BIN)/fraud-detect train $(ARGS)

ui: setup
	$(BIN)/fraud-detect ui $(ARGS)

# What needs a server, a browser or long is left out; conftest.py knows by its fixtures what needs a server.
test-fast: setup
	@echo "The tests without a server, a browser or chaos: 4 to 8 minutes on 2 cores."
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder --durations=20 \
		--hypothesis-profile=fast -m "not chaos and not browser and not slow and not servers" $(ARGS)

# Most tests wait for servers of their own, so more of them run than there are cores.
test: setup
	@echo "Every test, with servers, a browser and chaos: about 40 minutes on 2 cores. make test-fast is for work."
	$(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder --durations=20 --cov --cov-report=term $(ARGS)

# Go builds actionlint and checks its hashes; the package on PyPI downloads a binary when it is installed.
ACTIONLINT := build/bin/actionlint
$(ACTIONLINT):
	@if command -v go >/dev/null; then \
		GOBIN=$(CURDIR)/build/bin go install github.com/rhysd/actionlint/cmd/actionlint@v1.7.12; \
	else \
		echo "go is not installed: the workflow is linted by zizmor only (install Go 1.24 for actionlint)"; \
	fi

lint: setup $(ACTIONLINT)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/dg check defs
	$(BIN)/shellcheck .ci/run $$(git ls-files '*.sh')
	$(BIN)/hadolint deploy/Dockerfile
	$(BIN)/zizmor --offline --quiet .github
	@! [ -x $(ACTIONLINT) ] || PATH=$(CURDIR)/$(BIN):$$PATH $(ACTIONLINT)

audit: setup
	$(BIN)/python deploy/audit.py requirements.txt deploy/requirements.txt deploy/serving-requirements.txt

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

reference: setup
	$(BIN)/python docs/reference.py

# NO_MKDOCS_2_WARNING silences a banner of the theme about MkDocs 2, which pyproject.toml excludes.
docs: reference
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

env:
	@$(PYTHON) deploy/env.py .env

# The NVIDIA collectives library is left out: XGBoost trains on CPUs without it, and it is larger than all the rest.
# One list holds for every Python and processor (--universal), with one version of each package (fewest), so that a model
# trained on one Python scores alike on another. The image and the bento install a part of the same versions.
COMPILE := build/uv/bin/uv pip compile pyproject.toml --universal --python-version 3.11 --fork-strategy fewest \
	--generate-hashes --quiet --no-header --no-emit-index-url --no-emit-find-links --no-emit-package nvidia-nccl-cu12
requirements:
	$(PYTHON) -m venv build/uv && build/uv/bin/python -m pip install --quiet uv
	$(COMPILE) --all-extras --output-file requirements.txt
	$(COMPILE) --extra image --constraint requirements.txt --output-file deploy/requirements.txt
	$(COMPILE) --extra serving --constraint requirements.txt --output-file deploy/serving-requirements.txt

clean:
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache
