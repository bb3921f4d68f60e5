# Everything runs in $(VENV), which is made on first use and brought up to date when what it was made from changes.
# `make help` lists the targets.

PYTHON ?= python3
VENV ?= .venv
# Capabilities that the tests must find, separated by commas; a missing one fails instead of skipping.
REQUIRE ?=
# What to run of the tests: files, -k expressions, any pytest option.
ARGS ?=
# What `make wheels` makes a wheel for; empty for each CPython on this machine.
PYTHONS ?=
# Processes that run tests; 0 runs them in this one.
JOBS ?= auto
# Not empty: `make test-wine` runs each test file on one of its CPythons, not on each.
SHARE ?=

PY := $(VENV)/bin/python
PIP := $(PY) -m pip --quiet --disable-pip-version-check
C_FILES := $(wildcard csrc/*.[ch] csrc/*/*.[ch] bench/*.[ch] bench/*/*.[ch] tests/*.[ch] tests/*/*.[ch])
CYTHON_FILES := $(wildcard src/mcastfast/*.pyx src/mcastfast/*.pxd src/mcastfast/*.pxi)
BUILD_INPUTS := pyproject.toml setup.py $(wildcard csrc/*.[ch] csrc/*/*.[ch]) $(CYTHON_FILES)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: demo test test-apple test-wine check-platforms bench performance lint check-workflows format sanitize sdist wheel wheels docs install clean help

demo: install ## send and receive over the loopback interface, beside socket.recvfrom
	$(VENV)/bin/mcastfast bench $(ARGS)

test: install $(VENV)/.made-test ## run the tests (REQUIRE=capability,... ARGS=pytest options)
	$(PY) -m pytest -n $(JOBS) --dist loadgroup $(if $(REQUIRE),--require=$(REQUIRE)) $(ARGS)

# Fetched once for both who use them.
WINDOWS_PYTHONS := build/wine/interpreters
$(WINDOWS_PYTHONS): tests/wine/interpreters.py $(VENV)/.made-wine
	$(PY) tests/wine/interpreters.py
	@touch $@

test-wine: install $(VENV)/.made-wine $(WINDOWS_PYTHONS) ## run the portable tests on Windows' CPythons under Wine, which is not Windows
	$(PY) tests/wine/run.py $(if $(SHARE),--share) -- $(ARGS)

bench: install $(VENV)/.made-bench $(VENV)/.made-peers ## measure against C and what you would use instead: a table, build/bench/*.svg
	$(PY) -m pytest bench $(ARGS)

performance: install $(VENV)/.made-bench ## write docs/performance.md from what bench kept
	$(PY) -m bench.performance

lint: install $(VENV)/.made-lint check-workflows ## check style, types and spelling; changes nothing
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy src
	$(PY) -m mypy tests
	$(PY) -m mypy bench
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" cython-lint $(CYTHON_FILES)
	$(VENV)/bin/clang-format --dry-run -Werror $(C_FILES)
	$(VENV)/bin/codespell

# Offline: by the schema that comes with the one, and what the other knows by itself.
check-workflows: $(VENV)/.made-lint ## check .github
	$(VENV)/bin/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(VENV)/bin/check-jsonschema --quiet --builtin-schema vendor.dependabot .github/dependabot.yml
	$(VENV)/bin/zizmor --offline --quiet --persona=pedantic .github

format: $(VENV)/.made-lint ## bring Python and C into the project's style
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .
	$(VENV)/bin/clang-format -i $(C_FILES)

# The instrumented build has its own directory, found before the installed one through PYTHONPATH. Python is not instrumented:
# the runtime is preloaded, its own leaks at exit are not ours to report, and malloc must see every object.
# Left out is what is of Python alone, and what only starts programs that do what other tests do.
SANITIZED := build/sanitize
UNSANITIZED := $(foreach what,address bench c_core capabilities cli docs engines membership_kernel package peer rate_grammar seconds source,--ignore-glob="tests/test_$(what)*")
sanitize: install $(VENV)/.made-test ## run the tests under AddressSanitizer and UndefinedBehaviorSanitizer
	MCASTFAST_SANITIZE=address,undefined $(PY) setup.py --quiet build --build-base $(SANITIZED) --build-lib $(SANITIZED)/lib
	LD_PRELOAD="$$($(CC) -print-file-name=libasan.so)" ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
	PYTHONMALLOC=malloc PYTHONPATH=$(CURDIR)/$(SANITIZED)/lib MCASTFAST_SANITIZED=1 \
	$(PY) -m pytest --timeout=600 -n $(JOBS) --dist loadgroup $(UNSANITIZED) $(ARGS)

# macOS' C core over Linux' calls: what Linux lacks or does otherwise is in tests/darwin, recvmsg_x and its kin preloaded as
# the system would have them. What it cannot show there is in tests/darwin/gaps.py.
APPLE := build/apple
APPLE_TESTS := tests/test_apple_engine.py tests/test_cli_selftest.py tests/test_contract.py tests/test_exit_interpreter.py \
	tests/test_fork_receiver.py \
	tests/test_interface_enumerate.py tests/test_interface_resolve.py tests/test_memory_steady.py \
	$(foreach what,background batch binding datagram loss membership ownership receiver sender threads,$(wildcard tests/test_$(what)_*.py))
test-apple: install $(VENV)/.made-test ## run what is not about Linux over macOS' C core, on a shim (ARGS=pytest options)
	@mkdir -p $(APPLE)
	$(CC) -std=c11 -O2 -Wall -Wextra -Werror -fPIC -shared -o $(APPLE)/msg_x.so tests/darwin/msg_x.c
	MCASTFAST_SYSTEM=darwin CFLAGS="-include $(CURDIR)/tests/darwin/darwin.h" \
	$(PY) setup.py --quiet build --build-base $(APPLE) --build-lib $(APPLE)/lib
	LD_PRELOAD=$(CURDIR)/$(APPLE)/msg_x.so PYTHONPATH=$(CURDIR)/$(APPLE)/lib:$(CURDIR)/tests/darwin MCASTFAST_SYSTEM=darwin \
	$(PY) -m pytest -p gaps -n $(JOBS) --dist loadgroup $(or $(ARGS),$(APPLE_TESTS))

check-platforms: install $(VENV)/.made-platforms $(WINDOWS_PYTHONS) ## compile and link for macOS, Windows and other Linuxes (ARGS=names of targets)
	$(PY) tests/check_platforms.py $(ARGS)

sdist: $(VENV)/.made-test ## make dist/*.tar.gz
	$(PY) -m build --sdist

wheel: $(VENV)/.made-test ## make dist/*.tar.gz and, from it alone, dist/*.whl
	$(PY) -m build

wheels: $(VENV)/.made-wheels ## make dist/*.whl for PYTHONS, repaired with auditwheel, and test each in a fresh environment
	PYTHON="$(CURDIR)/$(PY)" TEST_ARGS='$(ARGS)' .ci/wheels $(PYTHONS)

docs: install $(VENV)/.made-docs ## make build/docs/index.html, and the tables of docs/platforms.md
	$(PY) tests/contract.py
	$(PY) -m sphinx -W --keep-going -b html docs build/docs

install: $(VENV)/.made-package ## install the package, editable, into $(VENV)

$(VENV)/.made-venv:
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade "pip>=25.1"
	@touch $@

$(VENV)/.made-package: $(VENV)/.made-build $(BUILD_INPUTS)
	$(PIP) install --no-build-isolation --editable .
	@touch $@

# What the benchmarks compare with. One that cannot be installed (no wheel for this Python, and no build) is left out.
PEERS := multicast_expert spead2 uvloop
$(VENV)/.made-peers: $(VENV)/.made-venv pyproject.toml
	@for peer in $(PEERS); do \
		$(PIP) install --group $$peer || echo "$$peer cannot be installed here: the tables will be without it" >&2; \
	done
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
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
