PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-all test-slurm test-arm torture lint validate bench bench-query bench-peers bench-gpu bench-docs schemas clean

# one environment for everything; made anew when the dependencies change
.venv/.ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

demo: .venv/.ready  ## build 4,000 random circuits, compare with the paper, draw a pyloric one
	$(BIN)/pyloric-db build demo --out demo-db
	$(BIN)/pyloric-db trace demo-db \
	  $$($(BIN)/pyloric-db query demo-db pyloric --columns circuit_id --limit 1 --format csv | tail -n 1) \
	  -o demo.png

test: .venv/.ready  ## the tests, without the slow ones, two at a time
	$(BIN)/python -m pytest -q -m 'not slow' -n 2 --dist loadfile

test-all: .venv/.ready  ## all tests
	$(BIN)/python -m pytest -q

torture: .venv/.ready  ## every fault at random moments, 20 times each; under 15 minutes; root for the disks
	PYTHONPATH=tests $(BIN)/python -m torture.run

test-slurm: .venv/.ready  ## a build in the jobs of a real Slurm on this machine; installs it; root
	PYTHONPATH=tests $(BIN)/python -m slurm.run

test-arm: .venv/.ready  ## a build on 64-bit ARM, emulated; installs QEMU and a Debian; root
	PYTHONPATH=tests $(BIN)/python -m arm.run

lint: .venv/.ready  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	for scripts in benchmarks validation; do MYPYPATH=$$scripts $(BIN)/mypy $$scripts/*.py || exit; done

validate: .venv/.ready  ## write docs/validation.md; about ten minutes on two cores
	$(BIN)/python validation/validate.py

bench: .venv/.ready  ## rates on this machine, on one process and on several
	$(BIN)/pyloric-db bench

# a database of full size: 1.8 GB
.bench/prinz2004/derived: .venv/.ready
	test -d demo-db || $(BIN)/pyloric-db build demo --out demo-db
	$(BIN)/python benchmarks/make_database.py demo-db .bench/prinz2004
	$(BIN)/pyloric-db index .bench/prinz2004
	touch $@

bench-query: .bench/prinz2004/derived  ## questions to 20 million circuits, beside other libraries
	$(BIN)/python -m pip install --quiet --editable '.[dev,bench]'
	$(BIN)/python benchmarks/queries.py .bench/prinz2004 --write docs/benchmarks.md

# the peers have an environment of their own: the newest Brian2 needs Python 3.13
PEERS_PYTHON ?= $(PYTHON)
PEERS := .venv-peers/bin

.venv-peers/.ready: pyproject.toml
	$(PEERS_PYTHON) -m venv .venv-peers
	$(PEERS)/python -m pip install --quiet --upgrade pip
	$(PEERS)/python -m pip install --quiet --editable '.[bench]'
	touch $@

bench-peers: .venv/.ready .venv-peers/.ready  ## Jaxley and Brian2 on the same circuits; error against work
	$(PEERS)/python benchmarks/peers.py
	$(BIN)/python benchmarks/work_precision.py

# so have the compilers for GPUs: gigabytes, and another JAX backend
GPU := .venv-gpu/bin

.venv-gpu/.ready: pyproject.toml
	$(PYTHON) -m venv .venv-gpu
	$(GPU)/python -m pip install --quiet --upgrade pip
	$(GPU)/python -m pip install --quiet --editable '.[bench-gpu]'
	touch $@

bench-gpu: .venv-gpu/.ready  ## machine code of the kernel for an H100, in several ways; needs no GPU
	$(GPU)/python benchmarks/gpu_code.py

bench-docs: .venv/.ready .venv-peers/.ready .venv-gpu/.ready  ## measure again what docs/ says of speed
	$(BIN)/python benchmarks/simulation.py --write-docs
	$(BIN)/python benchmarks/build.py --circuits 8192 200000 --write-docs
	$(BIN)/python benchmarks/classification.py --write-docs
	$(BIN)/python benchmarks/host.py --write-docs
	$(PEERS)/python benchmarks/peers.py --write-docs
	$(BIN)/python benchmarks/work_precision.py --write-docs
	$(BIN)/python benchmarks/profile_step.py --write-docs
	$(GPU)/python benchmarks/gpu_code.py --write-docs

schemas: .venv/.ready  ## export schemas/ from the code
	$(BIN)/python -m pyloric_db.pipeline.schemas schemas

clean:
	rm -rf .venv .venv-peers .venv-gpu .bench work_precision.png demo-db demo.png dist
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis
