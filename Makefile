# Everything runs in $(VENV), which is made on first use and brought up to date when what it was made from changes.
# `make help` lists the targets.

PYTHON ?= python3
VENV ?= .venv
# Capabilities that the tests must find, separated by commas; a missing one fails instead of skipping.
REQUIRE ?=
# What to run of the tests: files, -k expressions, any pytest option.
ARGS ?=
# Processes that run tests; 0 runs them in this one.
JOBS ?= auto

PY := $(VENV)/bin/python
PIP := $(PY) -m pip --quiet --disable-pip-version-check
C_FILES := $(wildcard csrc/*.[ch] csrc/*/*.[ch] bench/*.[ch] bench/*/*.[ch] tests/*.[ch] tests/*/*.[ch])
CYTHON_FILES := $(wildcard src/mcastfast/*.pyx src/mcastfast/*.pxd src/mcastfast/*.pxi)
BUILD_INPUTS := pyproject.toml setup.py $(wildcard csrc/*.[ch] csrc/*/*.[ch]) $(CYTHON_FILES)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: demo test bench lint format sanitize sdist wheel docs install clean help

demo: install ## send and receive over the loopback interface, beside socket.recvfrom
	$(VENV)/bin/mcastfast bench $(ARGS)

test: install $(VENV)/.made-test ## run the tests (REQUIRE=capability,... ARGS=pytest options)
	$(PY) -m pytest -n $(JOBS) --dist loadgroup $(if $(REQUIRE),--require=$(REQUIRE)) $(ARGS)

bench: install $(VENV)/.made-bench ## measure against the C limit, socket, asyncio and uvloop
	$(PY) -m pytest bench $(ARGS)

lint: install $(VENV)/.made-lint ## check style, types and spelling; changes nothing
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy src
	$(PY) -m mypy tests
	$(PY) -m mypy bench
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" cython-lint $(CYTHON_FILES)
	$(VENV)/bin/clang-format --dry-run -Werror $(C_FILES)
	$(VENV)/bin/codespell

format: $(VENV)/.made-lint ## bring Python and C into the project's style
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .
	$(VENV)/bin/clang-format -i $(C_FILES)

# The instrumented build has its own directory, found before the installed one through PYTHONPATH. Python is not instrumented:
# the runtime is preloaded, its own leaks at exit are not ours to report, and malloc must see every object.
SANITIZED := build/sanitize
sanitize: install $(VENV)/.made-test ## run the tests under AddressSanitizer and UndefinedBehaviorSanitizer
	MCASTFAST_SANITIZE=address,undefined $(PY) setup.py --quiet build --build-base $(SANITIZED) --build-lib $(SANITIZED)/lib
	LD_PRELOAD="$$($(CC) -print-file-name=libasan.so)" ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
	PYTHONMALLOC=malloc PYTHONPATH=$(CURDIR)/$(SANITIZED)/lib MCASTFAST_SANITIZED=1 \
	$(PY) -m pytest --timeout=600 -n $(JOBS) --dist loadgroup --ignore-glob="tests/test_package_*" $(ARGS)

sdist: $(VENV)/.made-test ## make dist/*.tar.gz
	$(PY) -m build --sdist

wheel: $(VENV)/.made-test ## make dist/*.tar.gz and, from it alone, dist/*.whl
	$(PY) -m build

docs: install $(VENV)/.made-docs ## make build/docs/index.html
	$(PY) -m sphinx -W --keep-going -b html docs build/docs

install: $(VENV)/.made-package ## install the package, editable, into $(VENV)

$(VENV)/.made-venv:
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade "pip>=25.1"
	@touch $@

$(VENV)/.made-package: $(VENV)/.made-build $(BUILD_INPUTS)
	$(PIP) install --no-build-isolation --editable .
	@touch $@

# One dependency group of pyproject.toml.
$(VENV)/.made-%: $(VENV)/.made-venv pyproject.toml
	$(PIP) install --group $*
	@touch $@

clean: ## remove everything that the other targets made
	rm -rf $(VENV) build dist src/*.egg-info src/mcastfast/_core.c src/mcastfast/*.so
	rm -rf .benchmarks .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
