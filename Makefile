# Everything here works on a fresh machine with a C++17 compiler and Python >= 3.10: what is missing goes into .venv.
#   make demo | test | bench | lint | tidy | docs | figures | clean          ARGS="…" is handed on to demo, bench, pytest
#   and sphinx-build
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

.PHONY: demo test bench lint lint-python lint-types lint-cpp format tidy docs figures clean

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

# The site comes to build/docs; what Sphinx reads, and what it remembers, stays beside it.
docs: $(VENV)/.build-requirements
	$(call install,docs,OFF)
	$(bin)/python docs/site/stage.py build/docs-source
	$(bin)/sphinx-build -W --keep-going -q -c docs/site -d build/docs-doctrees $(ARGS) build/docs-source build/docs
	@echo "open build/docs/index.html"

# Every picture of the docs anew: FIGURES="forecast tree_depth" only these. About half an hour on two cores for all.
figures: $(VENV)/.build-requirements
	$(call install,bench,OFF)
	$(bin)/python docs/figures/draw.py $(FIGURES)

clean:
	rm -rf build dist $(VENV) .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
