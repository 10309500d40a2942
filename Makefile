# Needs only make and Python 3.11 or newer; everything else goes into .venv, at the versions of
# constraints.txt. To build .venv with another Python: `make clean`, then `make test PYTHON=python3.12`.
#
# About torch. Only the tests use it, so `make demo` does without. Its version comes from
# constraints.txt, because packages that ask for any torch would otherwise bring the newest release, and
# because parity was measured with this one. On Linux the wheels of the default index depend on several
# GB of CUDA libraries; to spare them, set PIP_EXTRA_INDEX_URL (or PIP_INDEX_URL) to PyTorch's CPU
# index, whose build of the same version pip prefers.

PYTHON ?= python3
PYTEST_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
# perceiver-io's declared requirements stay unmet on purpose (below), and pip need not repeat it.
# It says what goes wrong, and nothing else.
INSTALL := $(BIN)/python -m pip --disable-pip-version-check install --quiet --no-warn-conflicts

# Empty files in .venv, as new as the step that they stand for.
MADE := $(VENV)/.made
DEMO := $(VENV)/.installed-demo
DOCS := $(VENV)/.installed-docs
DEV := $(VENV)/.installed-dev

.PHONY: help demo test lint docs clean
.NOTPARALLEL:

help:
	@echo "make demo    train a small Perceiver on real digits"
	@echo "make test    run the tests; PYTEST_ARGS='-k attention' is passed on to pytest"
	@echo "make lint    check format, style and types"
	@echo "make docs    guides and reference as pages in build/docs"
	@echo "make clean   remove .venv, builds and caches; runs/ stays"

demo: $(DEMO)
	@echo "training configs/mnist5k.py: about two minutes on two CPU cores"
	@$(BIN)/python -m perceiver_jax.train.main --config=mnist5k

test: $(DEV)
	$(BIN)/python -m pytest -n auto --maxprocesses=4 --dist loadfile $(PYTEST_ARGS)

lint: $(DEV)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

docs: $(DOCS)
	$(BIN)/python -m mkdocs build

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(MADE):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "perceiver_jax needs Python 3.11 or newer, and '$(PYTHON)' is missing or older: name another one, as in 'make $(MAKECMDGOALS) PYTHON=python3.12'." >&2; \
	    exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo "'$(PYTHON)' lacks the venv module: install it (on Debian and Ubuntu, the package python3-venv) or name another Python, as in 'make $(MAKECMDGOALS) PYTHON=python3.12'." >&2; \
	    exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(DEMO): $(MADE) pyproject.toml constraints.txt
	@echo "installing into $(VENV) what training needs, once (some minutes)"
	@$(INSTALL) -c constraints.txt -e '.[demo]'
	@touch $@

$(DOCS): $(MADE) pyproject.toml constraints.txt
	@echo "installing into $(VENV) what the pages need, once (some minutes)"
	@$(INSTALL) -c constraints.txt -e '.[docs]'
	@touch $@

# [dev] contains [demo] and [docs], so a later `make demo` has nothing to install. perceiver-io says
# that it needs Python < 3.11 and a dozen packages; the modules that the tests compare with need
# neither.
$(DEV): $(MADE) pyproject.toml constraints.txt
	@echo "installing into $(VENV) what the tests need, once (some minutes)"
	@$(INSTALL) -c constraints.txt -e '.[dev]'
	@$(INSTALL) --no-deps --ignore-requires-python perceiver-io==0.11.0
	@touch $(DEMO) $(DOCS) $@
