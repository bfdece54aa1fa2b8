# Each target makes the virtual environment first, if it is missing or out of date.
VENV ?= .venv
PYTHON ?= python3
RUN := $(VENV)/bin/python
# some hosts forbid Python to keep what it compiles: each of many processes would compile it anew
export PYTHONDONTWRITEBYTECODE :=
# one thread for each of the processes that share the cores
# neighbours stay together, as they share what a file makes once
PYTEST := OMP_NUM_THREADS=1 $(RUN) -m pytest --numprocesses auto --dist worksteal
# the files with tests of a mark, as it takes long to import all
marked = $(shell grep -rlE --include='test_*.py' 'pytest\.mark\.($(1))\b' tests)
READY := $(VENV)/.ready
PEERS := $(VENV)/.peers
DOCS := $(VENV)/.docs
ENVIRONMENTS := $(VENV)/.environments

.PHONY: demo test slow lint types examples docs benchmarks versions wheel compatibility clean

demo: $(READY)
	$(RUN) examples/demo.py

test: $(READY)
	$(PYTEST) -m "not slow and not example and not cross_library"

# what takes longer, and the comparisons with other libraries
slow: $(PEERS)
	$(PYTEST) -m "slow or cross_library" $(call marked,slow|sampled|cross_library)

lint: $(READY)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

types: $(READY)
	$(RUN) -m mypy

examples: $(READY)
	$(PYTEST) -m example $(call marked,example)

# the site, each tutorial run; a warning is an error
docs: $(DOCS)
	MPLBACKEND=Agg $(RUN) -m sphinx -W --keep-going -b html docs docs/_build/html

# the same report by the peers; other sets, threads and workloads: see its --help
benchmarks: $(PEERS)
	$(RUN) -m examples.benchmarks.peers

# the default tests with the lowest and the highest versions that pyproject.toml admits, on each
# Python from 3.10 to 3.13 that is there; an hour, and some GB of downloads
versions: $(ENVIRONMENTS)
	$(RUN) -m tests.versions

# a built wheel in an empty environment
wheel: $(ENVIRONMENTS)
	$(RUN) -m tests.wheel

# docs/works_with.md: installs some twenty packages
compatibility: $(ENVIRONMENTS)
	$(RUN) -m examples.compatibility

clean:
	rm -rf $(VENV) runs docs/_build docs/gallery

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

$(DOCS): $(READY)
	$(RUN) -m pip install --quiet --constraint constraints.txt --editable ".[dev,docs]"
	touch $@

$(ENVIRONMENTS): $(READY)
	$(RUN) -m pip install --quiet --constraint constraints.txt --editable ".[dev,environments]"
	touch $@

# curvlinops pulls in torchvision through backpack, and uses it nowhere; of
# hessian-eigenthings only pre-releases are of its present kind
$(PEERS): $(READY)
	$(RUN) -m pip install --quiet --constraint constraints.txt --editable ".[dev,cross-library]"
	$(RUN) -m pip install --quiet --constraint constraints.txt --no-deps curvlinops-for-pytorch backpack-for-pytorch
	$(RUN) -m pip install --quiet --constraint constraints.txt --no-deps --pre hessian-eigenthings
	touch $@
