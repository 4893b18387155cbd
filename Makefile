# demo    install, start the embedded broker, run the whole pipeline on real data, print the result
# test    all tests; check: formatter, linter, types, import contracts; bench: every benchmark
#
# PYTHON       a Python 3.11 or newer to make the environment with
# TORCH_INDEX  an extra package index with CPU builds of torch, for those whose default one brings CUDA

PYTHON ?= $(shell command -v python3.11 || command -v python3)
TORCH_INDEX ?=
VENV := .venv
BIN := $(VENV)/bin
OLD := .venv-tflite-runtime
PIP_FLAGS := --quiet --disable-pip-version-check -c constraints.txt $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

.PHONY: demo test check bench install clean

demo: install
	@$(BIN)/python -m benchmarks demo

test: install $(OLD)/.installed
	$(BIN)/python -m pytest
	$(OLD)/bin/python -m pytest -o filterwarnings= tests/edge_node/test_heads.py tests/schemas/codecs

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: install
	@for name in overhead roundtrip footprint failover kpi; do $(BIN)/python -m benchmarks $$name || exit 1; done

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "installing into $(VENV) (once; torch is about 200 MB)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install $(PIP_FLAGS) -e '.[edge,cloud,embedded,fleet,dev]'
	@touch $@

# tflite-runtime is what 32-bit ARM has: Python 3.11 at most, NumPy 1. Without such a Python nothing is tested here.
$(OLD)/.installed: pyproject.toml constraints-tflite-runtime.txt
	@$(PYTHON) -m venv $(OLD)
	@$(OLD)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-tflite-runtime.txt \
		-e . tflite-runtime pillow pytest pytest-asyncio pytest-timeout hypothesis
	@touch $@

clean:
	rm -rf $(VENV) $(OLD) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
