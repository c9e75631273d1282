# The two commands of the README are `make demo` and `make test`; the others are parts of them.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# Tests tell GPUs that aren't there; where there are some, only those marked `gpu` see them.
ON_CPUS := CUDA_VISIBLE_DEVICES= $(BIN)/

.PHONY: demo test check unit unit-on-ray unit-without-ray unit-on-gpu acceptance bench docs reference lock clean

demo: $(INSTALLED)
	$(BIN)/python jobs/demo.py $(DEMO)

test: check unit

# Static checks: style, types, layers, dependencies, spelling.
check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry .
	$(BIN)/codespell

# Of the tests that are named, none may be one of a kind: pytest then ends with 5.
ifdef TESTS
unit: $(INSTALLED)
	$(ON_CPUS)python -m pytest -m "not slow and not gpu" $(TESTS) || [ $$? -eq 5 ]
	$(BIN)/python -m pytest -m "not slow and gpu" $(TESTS) || [ $$? -eq 5 ]
else
# Tests on Ray wait for processes that start: the others run beside them where there are two cores.
unit: $(INSTALLED)
	if $(BIN)/python -m tests.side_by_side; then jobs=2; else jobs=1; fi; \
	$(MAKE) --no-print-directory --keep-going --jobs=$$jobs unit-on-ray unit-without-ray
	$(MAKE) --no-print-directory unit-on-gpu
endif

unit-on-ray: $(INSTALLED)
	$(ON_CPUS)python -m pytest -m "not slow and ray and not gpu"

unit-without-ray: $(INSTALLED)
	$(ON_CPUS)coverage run -m pytest -m "not slow and not ray and not gpu"
	$(BIN)/coverage report --fail-under=95

unit-on-gpu: $(INSTALLED)
	$(BIN)/python -m pytest -m "not slow and gpu"

# The same checks at their full size.
acceptance: $(INSTALLED)
	$(ON_CPUS)python -m pytest --timeout=1800 -m "not gpu" $(TESTS) || [ $$? -eq 5 ]
	$(BIN)/python -m pytest --timeout=1800 -m gpu $(TESTS) || [ $$? -eq 5 ]

# Every measurement of docs/speed.md, as ratios, into bench.json; BENCH names sections, or --short.
bench: $(INSTALLED)
	$(BIN)/python -m tests.benchmarks $(BENCH)

# The pages of docs/ as a site, in build/docs; a warning is an error.
docs: reference
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs build/docs

# docs/reference/ from the code.
reference: $(INSTALLED)
	$(BIN)/python docs/generate.py

# One environment for everything. torch and torchvision come from the package index's default
# builds; OpenCV is the headless one, which needs no libGL.
$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

# Writes the versions now installed as the ones to install from now on.
lock:
	( sed -n 1p constraints.txt; $(BIN)/python -m pip freeze --exclude-editable ) > constraints.new
	mv constraints.new constraints.txt

clean:
	rm -rf $(VENV) demo build *.egg-info
