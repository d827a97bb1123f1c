# Everything here works on a fresh machine with a C++17 compiler and Python >= 3.10: what is missing goes into .venv.
#   make demo | test | bench | lint | tidy | clean          ARGS="…" is handed on to demo, bench and pytest
PYTHON ?= python3
VENV ?= .venv
WERROR ?= OFF
bin := $(VENV)/bin
export PATH := $(abspath $(bin)):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# Without build isolation and with a build folder that stays, so that a second `make` compiles only what changed.
build_folder := build/python
install = $(bin)/pip install -q --no-build-isolation -C build-dir=$(build_folder) \
  -C cmake.define.LSTMCORE_TESTS=$(2) -C cmake.define.LSTMCORE_WERROR=$(WERROR) '.[$(1)]'
build_requirements := "scikit-build-core>=0.11" "pybind11>=3.0" "cmeel-eigen>=3.4" "cmake>=3.18" ninja

.PHONY: demo test bench lint lint-python lint-types lint-cpp format tidy clean

$(bin)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "lstmcore needs Python >= 3.10, found " + sys.version)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.build-requirements: Makefile | $(bin)/python
	$(bin)/pip install -q $(build_requirements)
	touch $@

$(VENV)/.lint-requirements: requirements-lint.txt | $(bin)/python
	$(bin)/pip install -q -r requirements-lint.txt
	touch $@

demo: $(VENV)/.build-requirements
	$(call install,demo,OFF)
	$(bin)/python -m lstmcore demo $(ARGS)

test: $(VENV)/.build-requirements
	$(call install,test,ON)
	$(bin)/ctest --test-dir $(build_folder) --output-on-failure
	$(bin)/python -m pytest $(ARGS)

bench: $(VENV)/.build-requirements
	$(call install,bench,OFF)
	$(bin)/python bench/run.py $(ARGS)

lint: lint-python lint-types lint-cpp

lint-python: $(VENV)/.lint-requirements
	$(bin)/ruff check
	$(bin)/ruff format --check

lint-types: $(VENV)/.lint-requirements
	$(bin)/mypy

cpp_files = $(shell find cpp bench/native -name '*.cpp' -o -name '*.hpp')
lint-cpp: $(VENV)/.lint-requirements
	$(bin)/clang-format --dry-run -Werror $(cpp_files)

format: $(VENV)/.lint-requirements
	$(bin)/ruff check --fix
	$(bin)/ruff format
	$(bin)/clang-format -i $(cpp_files)

tidy: $(VENV)/.build-requirements $(VENV)/.lint-requirements
	$(bin)/cmake --preset tidy
	$(bin)/cmake --build --preset tidy

clean:
	rm -rf build dist $(VENV) .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
